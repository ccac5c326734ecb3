"""A switchover that Patroni was asked for (R12): refused, never carried out, and scheduled."""

import datetime
import json
import signal
import time

import scenario
from lab import clients
from lab.wait import until

LASTS = 15.0  # seconds: what a drain is bounded by
AHEAD = 8.0  # seconds from the request to the scheduled time


class Foreseen(scenario.Scenario):
    def test_requests(self):
        clients.create_ledger(self.lab.leader())
        sampler = self.sample()
        load = self.clients()
        self.refused(load, sampler)
        self.never_carried_out(load, sampler)
        self.scheduled(load, sampler)
        load.stop()
        self.assert_untouched(self.seen(load, "write", "writers through all of it"))
        self.assert_untouched(self.seen(load, "read", "readers through all of it"))
        self.assert_never_wrong(sampler)

    def ask(self, leader, candidate):
        """What Patroni's API writes, without its look at the candidate. Returns the time just before."""
        asked = time.monotonic()
        self.lab.etcd.put(self.lab.key("failover"), json.dumps({"leader": leader.name, "member": candidate}))
        return asked

    def ready_again(self, leader, sampler, out, seconds):
        return until(lambda: sampler.changed("primary", f"{leader.address}:5432", ["ready"], out), seconds,
                     f"the slot of {leader.name} is ready again")

    def refused(self, load, sampler):
        """Patroni cannot carry it out and clears the key."""
        leader = self.lab.wait_writable()
        load.wait_served("kept write", leader, 0, 20)
        asked = self.ask(leader, "nobody")
        out = sampler.wait_out("primary", leader, asked)
        back = self.ready_again(leader, sampler, out, LASTS - 3)
        self.figure(f"refused: drained {1000 * (out - asked):.0f} ms after the key, ready again after {back - out:.1f} s")
        self.assert_kept(load, leader, asked)
        load.wait_served("write", leader, back, 10)

    def never_carried_out(self, load, sampler):
        """Patroni stands still: nobody clears the key."""
        leader = self.lab.wait_writable()
        self.lab.processes.signal(leader.name, signal.SIGSTOP)
        try:
            asked = self.ask(leader, "nobody")
            out = sampler.wait_out("primary", leader, asked)
            back = self.ready_again(leader, sampler, out, LASTS + 2)
        finally:
            self.lab.processes.signal(leader.name, signal.SIGCONT)
        self.figure(f"never carried out: drained {1000 * (out - asked):.0f} ms after the key, ready again after "
                    f"{back - out:.1f} s")
        self.assertGreater(back - asked, LASTS - 0.5)
        self.assert_kept(load, leader, asked)
        load.wait_served("write", leader, back, 10)
        until(lambda: self.lab.etcd.get(self.lab.key("failover")) == "{}", 20, "Patroni has cleared the key")

    def scheduled(self, load, sampler):
        self.lab.wait_complete()
        old = self.lab.wait_writable()
        new = next(node for node in self.lab.nodes() if node.name != old.name)
        at = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=AHEAD)
        due = time.monotonic() + AHEAD
        status, body = old.post("/switchover", {"leader": old.name, "candidate": new.name, "scheduled_at": at.isoformat()})
        self.assertEqual(202, status, body)
        out = sampler.wait_out("primary", old, due - AHEAD)
        wrote = load.wait_served("write", new, due, 30)
        self.figure(f"scheduled: drained {1000 * (out - due):+.0f} ms from its time, first write on {new.name} "
                    f"{wrote - due:.2f} s after it")
        self.assertGreater(out - due, -0.1)
        self.assertLess(out - due, 0.5)
        self.lab.wait_in_step(30)

    def assert_kept(self, load, leader, since):
        cut = [line["error"] for line in load.records(since) if line["kind"] == "kept" and not line["ok"]]
        self.assertEqual([], cut, f"sessions kept on {leader.name}")


if __name__ == "__main__":
    scenario.main()
