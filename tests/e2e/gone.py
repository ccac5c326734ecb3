"""The leader's host vanishes from the network: new connections wait, and those to it are cut when another leads.

Runs in a network namespace of its own, where an unreachable route takes the host away and brings it back.
"""

import os
import subprocess
import sys
import time

import scenario
from lab import clients
from lab.observer import leader_key
from lab.wait import until

OUT_WITHIN = 4.0  # seconds: a probe's interval, and the timeouts of REST API and port
INSIDE = "POINTSMAN_E2E_NAMESPACE"


class Gone(scenario.Scenario):
    def test_leader_gone(self):
        clients.create_ledger(self.lab.leader())
        sampler = self.sample()
        load = self.clients()
        old = self.lab.wait_writable()
        load.wait_served("kept write", old, 0, 20)
        key = leader_key(self.lab)
        self.addCleanup(key.stop)

        begun = time.monotonic()
        self.route("add", old)
        self.addCleanup(self.route, "del", old, check=False)
        out = sampler.wait_out("primary", old, begun)
        moved = until(lambda: key.first(lambda name: name not in (None, old.name), begun), 60, "a new leader key")
        new = self.lab.wait_writable()
        wrote = load.wait_served("write", new, begun, 30)
        self.figure(f"gone: slot out {out - begun:.2f} s later, new leader key {moved - begun:.1f} s, "
                    f"first write {wrote - moved:.2f} s after that")
        self.assertLess(out - begun, OUT_WITHIN)

        self.route("del", old)
        self.lab.wait_streaming(old)
        self.lab.wait_in_step(30)
        load.stop()
        seen = self.seen(load, "write", "writers")
        # A connection that was being made may be lost with the host; whoever comes after the slot is out waits.
        self.assertEqual([], [line["error"] for line in seen.failures if line["start"] > out])
        reads = self.seen(load, "read", "readers")
        self.assertEqual([], [line["error"] for line in reads.failures])
        ended = [line for line in load.records(begun) if line["kind"] == "kept" and line["node"] == old.address]
        self.assertEqual(2, len(ended), "both sessions kept on the old leader were cut")
        latest = max(line["end"] for line in ended)
        self.figure(f"kept sessions cut {latest - moved:+.2f} s from the new leader key")
        self.assertLess(latest, moved + 0.5)
        self.assert_never_wrong(sampler)

    def route(self, what, node, check=True):
        subprocess.run(["ip", "route", what, "unreachable", f"{node.address}/32", "table", "local"], check=check,
                       capture_output=not check)


def enter_namespace():
    if not os.environ.get(INSIDE) and os.geteuid() == 0:
        os.execvpe("unshare", ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-B",
                               *sys.argv], {**os.environ, INSIDE: "1"})


if __name__ == "__main__":
    enter_namespace()
    scenario.main()
