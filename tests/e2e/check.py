"""`pointsman check` on a real cluster: silent where all is well, and one line for each thing that is not."""

import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import time

import scenario

AGENT = "haproxy"  # in HAProxy's group as its socket asks
WITHIN = 12.0  # seconds, whatever hangs

SLOTS = "slot.invalid:1 init-addr last,127.0.0.1 check port 8008 disabled"

# One mistake each: what is written instead, and the finding that names it.
MISTAKES = {
    "level of the socket": (("level admin", "level operator"), "the stats socket has level operator, not admin"),
    "no expose-fd": ((" expose-fd listeners", ""), "no stats socket with `expose-fd listeners`"),
    "no backend": (("replicas", "readers"), "backend replicas: HAProxy has no such backend"),
    "too few slots": (("pg 1-8", "pg 1-2"), "2 slots for 3 members"),
    "init-addr none": (("init-addr last,127.0.0.1", "init-addr none"), "slots without an address (`init-addr none`)"),
    "literal address": (("slot.invalid:1 init-addr last,127.0.0.1", "127.0.0.1:1"), "slots declared with a literal address"),
    "not disabled": ((SLOTS, SLOTS.replace(" disabled", "")), "slots not declared `disabled`"),
    "no check port": ((" check port 8008", " check"), "slots without `check port`"),
    "another check port": ((" check port 8008", " check port 8009"), "`check port 8009` is not the port of the REST API of"),
    "no check": ((" check port 8008", ""), "slots without `check`"),
    "static balance": (("listen replicas\n", "listen replicas\n    balance static-rr\n"), "`balance static-rr` is static"),
    "hashed balance": (("listen replicas\n", "listen replicas\n    balance source\n"), "`balance source` is static"),
    "no state file": (("    server-state-file ", "    # server-state-file "), "no `server-state-file`"),
    "another state file": (("haproxy.state\n", "other.state\n"), "is not the file that the agent keeps"),
    "state file not loaded": (("    load-server-state-from-file global\n", ""), "no `load-server-state-from-file global`"),
    "no hold": (("    tcp-request content lua.hold", "    # tcp-request content lua.hold"), "no `tcp-request content lua.hold`"),
    "no hold server": (("    server hold ", "    # server hold "), "no server `hold`"),
    "sessions stay": ((" on-marked-down shutdown-sessions", ""), "slots without `on-marked-down shutdown-sessions`"),
    "another check": (("httpchk HEAD /master", "httpchk HEAD /replica"), "HAProxy checks /replica, not /master"),
    "retries": (("    retries 40\n", ""), "`retries 3` (the default)"),
    "redispatch": (("option redispatch 1", "option redispatch"), "no `option redispatch 1`"),
}


class Check(scenario.Scenario):
    def test_check(self):
        self.lab.settings.write_text(self.lab.settings.read_text().replace("fallback: primary",
                                                                           "fallback: primary, weight: {base: 100}"))
        self.lab.processes.kill("pointsman")
        self.good = self.lab.proxy.file.read_text()
        self.all_is_well()
        problems = [problem for name, (change, finding) in MISTAKES.items()
                    if (problem := self.mistake(name, change, finding))]
        self.assertEqual([], problems)
        self.start_haproxy(self.good)
        self.master_socket()
        self.other_users()
        self.member_is_gone()
        self.etcd_faults()
        self.no_haproxy()

    def check(self, user=None):
        """Exit status and output, as this user."""
        command = [self.lab.pointsman, "check", "--config", self.lab.settings]
        begun = time.monotonic()
        done = subprocess.run(command, user=user, group=user and pwd.getpwnam(user).pw_gid, extra_groups=[] if user else None,
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertLess(time.monotonic() - begun, WITHIN)
        self.assertEqual("", done.stderr)
        return done.returncode, done.stdout

    def start_haproxy(self, text):
        self.lab.processes.kill("haproxy")
        self.lab.socket.unlink(missing_ok=True)
        self.lab.proxy.file.write_text(text)
        self.lab.proxy.start()

    def lines(self, output, *labels):
        return [line for line in output.splitlines() if line.startswith(labels)]

    def all_is_well(self):
        status, output = self.check()
        self.figure(f"pointsman check\n{output}")
        self.assertEqual((0, []), (status, self.lines(output, "WRONG", "warn")))
        for part in ("3 members of demo, leader node", "/master 200", "/replica 200", "level admin", "backend primary: 8 slots",
                     "backend replicas: 8 slots"):
            self.assertIn(part, output)

    def mistake(self, name, change, finding):
        """What is wrong with what `check` says of a configuration with one mistake; None: nothing."""
        self.assertIn(change[0], self.good, name)
        self.start_haproxy(self.good.replace(*change))
        status, output = self.check()
        found = self.lines(output, "WRONG", "warn")
        self.figure(f"{name}: " + "; ".join(found))
        if len(found) == 1 and status == 1 and found[0].startswith("WRONG") and finding in found[0]:
            whole = output[output.index(found[0]):].splitlines()
            if whole[2].startswith("        mend  "):
                return None
        return f"{name}: exit status {status}:\n{output}"

    def master_socket(self):
        good = self.lab.settings.read_text()
        self.lab.settings.write_text(good.replace("  state_file:", f"  master_socket: {self.lab.proxy.master_socket}\n  state_file:"))
        status, output = self.check()
        self.assertEqual(1, status)
        self.assertEqual(1, len(self.lines(output, "WRONG haproxy.master_socket", "warn")), output)
        self.lab.settings.write_text(good)

    def other_users(self):
        status, output = self.check("nobody")
        self.figure(f"as nobody: {self.lines(output, 'WRONG')}")
        self.assertEqual(3, status)
        self.assertIn("ermission denied", output)
        # The agent's own: what it may not do is what `check` says.
        status, output = self.check(AGENT)
        self.figure(f"as {AGENT}: {self.lines(output, 'WRONG')}")
        self.assertEqual(1, status)
        self.assertIn("cannot be written by this user", self.lines(output, "WRONG")[0])
        folder = self.lab.folder.stat()
        shutil.chown(self.lab.folder, AGENT)
        self.assertEqual((0, []), (lambda done: (done[0], self.lines(done[1], "WRONG", "warn")))(self.check(AGENT)))
        self.lab.proxy.file.chmod(0o600)
        status, output = self.check(AGENT)
        self.figure(f"as {AGENT}, haproxy.cfg unreadable: {self.lines(output, 'WRONG', 'warn')}")
        self.assertEqual((0, 1), (status, len(self.lines(output, "warn  haproxy.cfg: not checked: "))))
        self.lab.proxy.file.chmod(0o644)
        os.chown(self.lab.folder, folder.st_uid, folder.st_gid)

    def member_is_gone(self):
        node = next(node for node in self.lab.nodes() if node.name != self.lab.leader().name)
        self.lab.processes.signal(node.name, signal.SIGSTOP)
        status, output = self.check()
        self.lab.processes.signal(node.name, signal.SIGCONT)
        found = self.lines(output, "WRONG")
        self.figure(f"a hung REST API: {found}")
        self.assertEqual((1, 1), (status, len(found)), output)
        self.assertIn(f"member {node.name} of demo", found[0])

    def etcd_faults(self):
        good = self.lab.settings.read_text()
        self.lab.settings.write_text(good.replace("scope: demo", "scope: other"))
        status, output = self.check()
        self.assertEqual(1, status)
        self.assertIn("etcd has no member under /service/other/members/", output)
        self.lab.settings.write_text(re.sub(r'endpoints"?: \[', lambda m: m.group(0) + f'"http://{self.lab.network}.199:2379", ', good))
        status, output = self.check()
        self.figure(f"one endpoint of two: {self.lines(output, 'WRONG')}")
        self.assertEqual((1, 1), (status, len(self.lines(output, "WRONG"))), output)
        self.lab.settings.write_text(good)
        self.lab.processes.signal("etcd", signal.SIGSTOP)
        status, output = self.check()
        self.figure(f"etcd hangs: {self.lines(output, 'WRONG')}")
        self.assertEqual(3, status)
        self.lab.processes.signal("etcd", signal.SIGCONT)
        self.lab.processes.kill("etcd")
        status, output = self.check()
        self.figure(f"etcd stopped: {self.lines(output, 'WRONG')}")
        self.assertEqual((3, 1), (status, len(self.lines(output, "WRONG"))), output)

    def no_haproxy(self):
        self.lab.processes.kill("haproxy")
        status, output = self.check()
        self.figure(f"HAProxy killed: {self.lines(output, 'WRONG')}")
        self.assertEqual(3, status)


if __name__ == "__main__":
    scenario.main()
