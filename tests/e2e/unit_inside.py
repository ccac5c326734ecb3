"""What unit.py tests, in its container: systemd, the agent's unit, and Debian's own of HAProxy and etcd."""

import http.server
import json
import os
import pathlib
import pwd
import socket
import subprocess
import threading
import time
import unittest

SOCKET = "/run/haproxy/admin.sock"
STATE_FILE = pathlib.Path("/var/lib/pointsman/haproxy.state")


def run(*words, **options):
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60, **options).stdout


def until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.02)
    return value


class Member:
    """A node as the agent sees it: a REST API, and a port that accepts."""

    def __init__(self, number):
        self.name = f"pg{number}"
        self.address = f"127.0.45.{number}"
        self.leads, self.silent = False, threading.Event()
        member = self

        class Rest(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                while member.silent.is_set():
                    time.sleep(0.05)
                self.send_response(200 if member.leads else 503)
                self.end_headers()
                role = "master" if member.leads else "replica"
                self.wfile.write(json.dumps({"state": "running", "role": role, "timeline": 1}).encode())

            do_HEAD = do_GET  # HAProxy's own check

            def log_message(self, *_words):
                pass

        rest = http.server.ThreadingHTTPServer((self.address, 8008), Rest)
        threading.Thread(target=rest.serve_forever, daemon=True).start()
        self.listener = socket.create_server((self.address, 5432))
        self.sessions = []
        threading.Thread(target=self.accept, daemon=True).start()
        # By name: the sandbox must let the agent look it up.
        put(f"members/{self.name}", json.dumps({"conn_url": f"postgres://{self.name}.test:5432/postgres",
                                                "api_url": f"http://{self.name}.test:8008/patroni"}))

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            connection.sendall(self.name.encode())
            self.sessions.append(connection)

    def take_over(self, other):
        other.leads = False
        put("leader", self.name)
        self.leads = True


def put(key, value):
    run("etcdctl", "put", f"/service/demo/{key}", value, env={**os.environ, "ETCDCTL_API": "3"})


def show(unit, name):
    return run("systemctl", "show", "-P", name, unit).strip()


def slots():
    """By address: (srv_admin_state, srv_check_state)."""
    with socket.socket(socket.AF_UNIX) as stats:
        stats.connect(SOCKET)
        stats.sendall(b"show servers state primary\n")
        text = b"".join(iter(lambda: stats.recv(65536), b"")).decode()
    rows = [line.split() for line in text.splitlines()[2:] if line]
    return {row[4]: (int(row[6]), int(row[13])) for row in rows if row[3] != "hold"}


def ready(member):
    try:
        return not slots().get(member.address, (1, 0))[0] & 0x3B
    except OSError:
        return False


def journal():
    return run("journalctl", "-u", "pointsman", "-b", "--no-pager", "-o", "short-precise")


def connect():
    """A session through HAProxy, and the name of the member that greeted it."""
    client = socket.create_connection(("127.0.45.100", 5000), timeout=30)
    client.sendall(b"hello")  # as with PostgreSQL, the client speaks first
    return client, client.recv(100).decode()


class InTheContainer(unittest.TestCase):
    def setUp(self):
        self.addCleanup(lambda: print(journal()[-6000:], flush=True))

    def test_unit(self):
        run("systemctl", "start", "etcd", "haproxy")
        self.one, self.two = Member(1), Member(2)
        self.one.leads = True
        put("leader", "pg1")
        run("systemctl", "start", "pointsman")
        self.assertEqual("active", show("pointsman", "ActiveState"))
        until(lambda: ready(self.one), 10, "the leader's slot is ready")
        self.rights()
        self.state_file()
        self.reload()
        self.old_worker()
        self.killed_while_it_keeps_a_slot()
        self.hangs()
        self.stops()
        for word in ("Operation not permitted", "ermission denied", "status=31/SYS"):
            self.assertNotIn(word, journal())

    def pid(self):
        return int(show("pointsman", "MainPID"))

    def rights(self):
        status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{self.pid()}/status").read_text().splitlines())
        account = pwd.getpwnam("pointsman")
        self.assertEqual({str(account.pw_uid)}, set(status["Uid"].split()))
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(0, int(status[name], 16), name)
        self.assertEqual("1", status["NoNewPrivs"])
        self.assertEqual("2", status["Seccomp"])  # a filter

    def state_file(self):
        until(lambda: STATE_FILE.exists() and self.one.address in STATE_FILE.read_text(), 5, "the state file is kept")
        self.assertEqual("pointsman", STATE_FILE.owner())
        self.assertEqual(0o644, STATE_FILE.stat().st_mode & 0o777)
        # HAProxy alone has its slot back from it.
        run("systemctl", "stop", "pointsman")
        run("systemctl", "restart", "haproxy")
        self.assertTrue(until(lambda: ready(self.one), 5, "HAProxy restores the slot by itself"))
        run("systemctl", "start", "pointsman")

    def reload(self):
        before = self.pid()
        run("systemctl", "reload", "pointsman")
        until(lambda: show("pointsman", "SubState") == "running", 5, "the agent has read its file again")
        self.assertEqual(before, self.pid())

    def old_worker(self):
        """As a user of HAProxy's group the agent may use the master socket too."""
        client, greeting = connect()
        self.assertEqual("pg1", greeting)
        run("systemctl", "reload", "haproxy")
        begun = time.monotonic()
        self.two.take_over(self.one)
        client.settimeout(10)
        self.assertEqual(b"", client.recv(1), "the session that the old worker held is cut")
        print(f"figure: a session of an old worker was cut {time.monotonic() - begun:.2f} s from the request to change the leader key", flush=True)
        self.assertEqual("pg2", connect()[1])
        self.one.take_over(self.two)
        until(lambda: ready(self.one), 10, "the first leads again")

    def checked(self):
        return bool(slots()[self.one.address][1] & 4)

    def killed_while_it_keeps_a_slot(self):
        """The agent keeps a slot whose REST API is silent, and is killed: HAProxy's own check judges again."""
        self.one.silent.set()
        until(lambda: not self.checked(), 10, "HAProxy's check of the slot is suspended")
        killed = self.pid()
        os.kill(killed, 9)
        until(self.checked, 10, "the unit gives the check back")
        self.one.silent.clear()
        until(lambda: self.pid() not in (0, killed), 10, "the agent is started again")
        until(lambda: show("pointsman", "ActiveState") == "active" and ready(self.one) and self.checked(), 20,
              "the slot is as it was")

    def hangs(self):
        """An agent that makes no progress is killed and begins anew."""
        hung = self.pid()
        os.kill(hung, 19)
        begun = time.monotonic()
        until(lambda: self.pid() not in (0, hung), 40, "the watchdog replaces an agent that hangs")
        print(f"figure: an agent that hung was replaced after {time.monotonic() - begun:.1f} s", flush=True)
        until(lambda: show("pointsman", "ActiveState") == "active" and ready(self.one), 10, "the new one is ready")

    def stops(self):
        begun = time.monotonic()
        run("systemctl", "stop", "pointsman")
        self.assertLess(time.monotonic() - begun, 8)
        self.assertEqual("success", show("pointsman", "Result"))
        self.assertTrue(ready(self.one), "HAProxy goes on with its slots")


if __name__ == "__main__":
    unittest.main(verbosity=2)
