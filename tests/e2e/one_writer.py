"""HAProxy's slots, sampled every 5 ms through ten switchovers and two crashes of the leader."""

import time

import scenario
from lab import clients
from lab.observer import leader_key
from lab.wait import until

SWITCHOVERS = 10
CUT_WITHIN = 0.5  # seconds from the new leader key, where the old leader's PostgreSQL lives on


class OneWriter(scenario.Scenario):
    def test_switchovers_and_crashes(self):
        clients.create_ledger(self.lab.leader())
        sampler = self.sample()
        load = self.clients()
        begun = time.monotonic()
        for number in range(SWITCHOVERS):
            self.switch(number)
        self.figure(f"{SWITCHOVERS} switchovers in {time.monotonic() - begun:.0f} s")
        load.stop()
        self.seen(load, "write", "writers through them")
        rows = clients.acknowledged(load.records())
        self.assertEqual(set(), rows - clients.ledger(self.lab.wait_writable()), "acknowledged rows that are lost")

        self.crash(patroni_only=False)
        self.crash(patroni_only=True)
        self.assert_never_wrong(sampler)

    def switch(self, number):
        leader = self.lab.wait_writable()
        others = [node for node in self.lab.nodes() if node.name != leader.name]
        self.lab.switchover(others[number % len(others)])
        self.lab.wait_in_step(30)

    def crash(self, patroni_only):
        """kill -9 of the leader; where only its Patroni dies, its PostgreSQL goes on taking writes (facts 1.4)."""
        what = "Patroni alone" if patroni_only else "Patroni and PostgreSQL"
        self.lab.wait_complete()
        load = self.clients()
        old = self.lab.wait_writable()
        load.wait_served("write", old, 0, 20)
        key = leader_key(self.lab)
        self.addCleanup(key.stop)
        begun = time.monotonic()
        self.lab.crash_node(old, patroni_only)
        dead = time.monotonic()  # whoever comes later waits
        moved = until(lambda: key.first(lambda name: name not in (None, old.name), begun), 60, "a new leader key")
        key.stop()
        new = self.lab.wait_writable()
        wrote = load.wait_served("write", new, begun, 30)
        self.figure(f"kill -9 of {what}: new leader key after {moved - begun:.1f} s, first write through HAProxy "
                    f"{wrote - moved:.2f} s later")
        self.check_stale(old, load, moved)
        self.lab.start_node(int(old.name[4:]))
        self.lab.wait_complete()
        self.lab.wait_in_step(30)
        load.stop()
        seen = self.seen(load, "write", f"writers through the crash of {what}")
        self.assertEqual([], [line["error"] for line in seen.failures if line["start"] > dead])
        lost = clients.acknowledged(load.records()) - clients.ledger(self.lab.wait_writable())
        self.figure(f"rows acknowledged by the old leader and lost with it: {len(lost)}")

    def check_stale(self, old, load, moved):
        """Once another is the leader, nobody writes on the old one."""
        stale = [line for line in load.records(moved) if line["ok"] and line["node"] == old.address
                 and line["kind"] in ("write", "kept write") and line["end"] > moved + CUT_WITHIN]
        self.assertEqual([], stale)


if __name__ == "__main__":
    scenario.main()
