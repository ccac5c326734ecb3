"""The leader's host vanishes, as a machine does that is paused: new connections wait, and those to it are cut when another
leads.

Runs in a network namespace of its own, where an unreachable route takes the host away while its processes stand still.
"""

import signal
import subprocess
import time

import scenario
from lab import clients
from lab.observer import leader_key
from lab.processes import family, signal_pid
from lab.wait import until

OUT_WITHIN = 4.0  # seconds: a probe's interval, and the timeouts of REST API and port


class Gone(scenario.Scenario):
    def test_leader_gone(self):
        clients.create_ledger(self.lab.leader())
        sampler = self.sample()
        load = self.clients()
        old = self.lab.wait_writable()
        until(lambda: {line["by"] for line in load.records() if line["kind"] == "kept write" and line["ok"]} == {"k0", "k1"},
              20, "both sessions are kept")
        key = leader_key(self.lab)
        self.addCleanup(key.stop)

        begun = time.monotonic()
        self.vanish(old)
        self.addCleanup(self.come_back, old)
        out = sampler.wait_out("primary", old, begun)
        moved = until(lambda: key.first(lambda name: name not in (None, old.name), begun), 60, "a new leader key")
        new = self.lab.wait_writable()
        wrote = load.wait_served("write", new, begun, 30)
        self.figure(f"gone: slot out {out - begun:.2f} s later, new leader key {moved - begun:.1f} s, "
                    f"first write {wrote - moved:.2f} s after that")
        self.assertLess(out - begun, OUT_WITHIN)

        back = time.monotonic()
        self.come_back(old)
        self.lab.wait_complete()  # with whichever leader: Patroni 3.0.2 may take the key back (facts 1.6)
        self.lab.wait_in_step(30)
        load.stop()
        seen = self.seen(load, "write", "writers")
        # A connection that was being made may be lost with the host; whoever comes after the slot is out waits.
        self.assertEqual([], [line["error"] for line in seen.failures if line["start"] > out and line["end"] < back])
        reads = self.seen(load, "read", "readers")
        self.assertEqual([], [line["error"] for line in reads.failures if line["end"] < back])
        # Those of before: where Patroni gives the key back, sessions are kept on it again.
        ended = [line for line in load.records(begun)
                 if line["kind"] == "kept" and line["node"] == old.address and line["start"] < begun]
        self.assertEqual(2, len(ended), "both sessions kept on the old leader were cut")
        latest = max(line["end"] for line in ended)
        self.figure(f"kept sessions cut {latest - moved:+.2f} s from the new leader key")
        self.assertLess(latest, moved + 0.5)
        self.assert_never_wrong(sampler)

    def vanish(self, node):
        subprocess.run(["ip", "route", "add", *self.route(node)], check=True)
        self.signal(node, signal.SIGSTOP)

    def come_back(self, node):
        """Safe to repeat."""
        self.signal(node, signal.SIGCONT)
        subprocess.run(["ip", "route", "del", *self.route(node)], check=False, capture_output=True)

    def route(self, node):
        return ["unreachable", f"{node.address}/32", "table", "local"]

    def signal(self, node, number):
        self.lab.processes.signal(node.name, number)
        postmaster = node.postmaster()
        if postmaster:
            for pid in family(postmaster):
                signal_pid(pid, number)


if __name__ == "__main__":
    scenario.enter_namespace()
    scenario.main()
