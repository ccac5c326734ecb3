"""A switchover to a node that has just joined, and one back, under writers, readers and sessions that are kept open."""

import scenario
from lab import clients, haproxy
from lab.observer import leader_key, running_primary

CUT_WITHIN = 0.5  # seconds from the moment at which the old leader stops being one


class Switchover(scenario.Scenario):
    def test_there_and_back(self):
        clients.create_ledger(self.lab.leader())
        before = haproxy.identity(self.lab.socket)
        sampler = self.sample()
        load = self.clients()
        first, fourth = self.lab.wait_writable(), self.lab.start_node(4)
        self.lab.wait_streaming(fourth)

        self.switch(first, fourth, load, sampler)
        self.switch(fourth, first, load, sampler)

        load.stop()
        writes = self.seen(load, "write", "writers")
        reads = self.seen(load, "read", "readers")
        self.assertEqual({first.address, fourth.address}, set(writes.nodes))
        self.assertEqual([], [line["error"] for line in writes.refused + reads.refused])
        self.assertEqual(before, haproxy.identity(self.lab.socket))
        self.figure(f"HAProxy is process {before[0]} from the start to the end")
        self.assert_never_wrong(sampler)

    def switch(self, old, new, load, sampler):
        watched = {"old": running_primary(old), "new": running_primary(new), "key": leader_key(self.lab)}
        for observer in watched.values():
            self.addCleanup(observer.stop)
        begun = self.lab.switchover(new)
        wrote = load.wait_served("write", new, begun, 30)
        self.lab.wait_in_step(30)
        for observer in watched.values():
            observer.stop()

        stopped = watched["old"].first(lambda answer: answer is not True, begun)
        key = watched["key"].first(lambda name: name == new.name, begun)
        promoted = watched["new"].first(lambda answer: answer is True, begun)
        ready = sampler.wait_ready("primary", new, begun)
        self.figure(f"{old.name} to {new.name}: old stops at {stopped - begun:.2f} s, leader key {key - begun:.2f} s, "
                    f"new takes writes {promoted - begun:.2f} s, slot ready {ready - begun:.2f} s, "
                    f"first write {wrote - begun:.2f} s")
        self.check_kept(old, load, begun, stopped)
        rows = clients.acknowledged(load.records())
        self.lab.wait_streaming(old)
        clients.wait_rows(old, rows)
        self.figure(f"all {len(rows)} rows acknowledged so far are on {old.name}, now a replica")

    def check_kept(self, old, load, begun, stopped):
        ended = [line for line in load.records(begun)
                 if line["kind"] == "kept" and line["node"] == old.address and line["start"] < begun]
        self.assertEqual(2, len(ended), "both sessions kept on the old leader were cut")
        latest = max(line["end"] for line in ended)
        self.figure(f"kept sessions of {old.name} cut {1000 * (latest - stopped):+.0f} ms from its stop")
        self.assertLess(latest - stopped, CUT_WITHIN)


if __name__ == "__main__":
    scenario.main()
