"""What an operator does to the daemon and its neighbours: drift, SIGHUP, a restart of HAProxy, a hung REST API, an end."""

import signal
import subprocess
import time

import scenario
from lab import clients, haproxy
from lab.wait import until

REPAIRED_WITHIN = 2.0  # seconds: the resync interval, and the time to look
HUNG_FOR = 12  # seconds: HAProxy's own checks (inter 2s, fall 3, 2 s each) would take the slot out


class Daemon(scenario.Scenario):
    nodes = 2

    def test_operations(self):
        clients.create_ledger(self.lab.leader())
        self.drift()
        self.bad_file()
        self.good_file()
        self.haproxy_restarts()
        self.rest_api_hangs()
        self.daemon_dies()

    def slot_of_leader(self):
        return next(slot for slot in haproxy.slots(self.lab.socket) if slot.backend == "primary" and slot.ready)

    def check_state(self, slot):
        """srv_check_state: 2 is configured, 4 is enabled."""
        rows = [row.split() for row in haproxy.ask(self.lab.socket, "show servers state primary").splitlines()[2:] if row]
        return next(int(row[13]) for row in rows if row[3] == slot.name)

    def drift(self):
        slot = self.slot_of_leader()
        haproxy.ask(self.lab.socket, f"set server primary/{slot.name} state maint")
        begun = time.monotonic()
        self.lab.wait_in_step(REPAIRED_WITHIN)
        self.figure(f"drift: a slot set to maint by hand was ready again after {time.monotonic() - begun:.2f} s")
        until(lambda: f"primary/{slot.name} drifted" in self.log(), 2, "the log says that it drifted")

    def bad_file(self):
        good = self.lab.settings.read_text()
        self.lab.settings.write_text(good.replace("check: /master", "chek: /master"))
        self.lab.processes.signal("pointsman", signal.SIGHUP)
        until(lambda: "unknown key 'chek'" in self.log(), 5, "the log refuses the file with its place")
        self.lab.settings.write_text(good)
        self.assertTrue(self.lab.in_step())

    def good_file(self):
        self.lab.settings.write_text(self.lab.settings.read_text() + "log: {level: debug}\n")
        sent = len(self.commands())
        self.lab.processes.signal("pointsman", signal.SIGHUP)
        until(lambda: self.log().count("read from etcd") == 2, 5, "the new configuration follows the cluster")
        time.sleep(3)  # long enough for every probe and two passes
        self.assertEqual(sent, len(self.commands()), "an adopting reload sends no command")
        self.assertTrue(self.lab.in_step())

    def haproxy_restarts(self):
        before = haproxy.identity(self.lab.socket)
        self.lab.processes.kill("haproxy")
        self.lab.socket.unlink()
        begun = time.monotonic()
        self.lab.start_haproxy()
        self.lab.wait_in_step(10)
        self.assertNotEqual(before, haproxy.identity(self.lab.socket))
        self.figure(f"HAProxy restarted: in step {time.monotonic() - begun:.2f} s after its start")
        until(lambda: "another process" in self.log(), 2, "the log says that HAProxy was restarted")

    def rest_api_hangs(self):
        """Patroni of the leader stands still and PostgreSQL does not: the slot stays, HAProxy's own check does not judge."""
        leader, slot = self.lab.wait_writable(), self.slot_of_leader()
        load = self.clients(readers=0)
        load.wait_served("write", leader, 0, 20)
        self.lab.processes.signal(leader.name, signal.SIGSTOP)
        try:
            until(lambda: not self.check_state(slot) & 4, 5, "HAProxy's own check of the slot is suspended")
            time.sleep(HUNG_FOR)
            self.assertEqual(slot.name, self.slot_of_leader().name)
        finally:
            self.lab.processes.signal(leader.name, signal.SIGCONT)
        until(lambda: self.check_state(slot) & 4, 10, "the check is resumed")
        load.stop()
        self.assert_untouched(self.seen(load, "write", f"writers while the leader's REST API hung for {HUNG_FOR} s"))
        self.assertEqual([], [line for line in load.records() if line["kind"] == "kept" and not line["ok"]])

    def daemon_dies(self):
        leader, slot = self.lab.wait_writable(), self.slot_of_leader()
        self.lab.processes.signal(leader.name, signal.SIGSTOP)
        try:
            until(lambda: not self.check_state(slot) & 4, 5, "HAProxy's own check of the slot is suspended")
            self.assertTrue(self.lab.processes.stop("pointsman", grace=8), "SIGTERM ends the daemon")
        finally:
            self.lab.processes.signal(leader.name, signal.SIGCONT)
        self.assertTrue(self.check_state(slot) & 4, "the daemon gives the check back before it ends")

        rows = self.lab.slots()
        self.assertEqual(leader.name, next(row["member"] for row in rows if row["slot"] == slot.name))
        self.assertEqual({None}, {row["desired"] for row in rows})
        self.assertEqual({"backend", "slot", "member", "address", "port", "state", "operational", "weight", "sessions",
                          "desired", "in_step"}, set(rows[0]) - {"why"})

        haproxy.ask(self.lab.socket, f"disable health primary/{slot.name}")
        self.lab.ask_pointsman("release")
        self.assertTrue(self.check_state(slot) & 4, "`release` gives the check back as well")

        self.lab.processes.stop("haproxy")
        done = subprocess.run([self.lab.pointsman, "slots", "--json", "--config", self.lab.settings], text=True,
                              capture_output=True, timeout=30, check=False)
        self.assertEqual((3, ""), (done.returncode, done.stdout))
        self.assertIn("HAProxy is not running", done.stderr)


if __name__ == "__main__":
    scenario.main()
