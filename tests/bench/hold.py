"""What connections that wait for a slot cost HAProxy, and how soon they are let through: the configuration that
`pointsman haproxy-config` prints, with hold.lua and without Lua, and so many connections held at once."""

import argparse
import os
import pathlib
import resource
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "deploy"))

from lab import haproxy  # noqa: E402
from lab.wait import until  # noqa: E402

MEASURED = 5.0  # seconds of waiting, after the first second
PROXY, SERVER = "127.0.60.200", "127.0.60.1"

SETTINGS = """\
haproxy: {socket: FOLDER/haproxy.sock}
etcd: {endpoints: ["http://127.0.0.1:2379"]}
clusters:
  - scope: demo
    pools: [{backend: primary, role: primary, check: /master, bind: "PROXY:5000"}]
"""


class Server:
    """Stands in for PostgreSQL: greets every connection."""

    def __init__(self):
        self.listener = socket.create_server((SERVER, 5432), backlog=4096)
        self.sessions = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            session, _ = self.listener.accept()
            self.sessions.append(session)
            session.sendall(b"R")

    def close_sessions(self):
        while self.sessions:
            self.sessions.pop().close()


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def held_connections(path):
    return int(haproxy.info(path)["CurrConns"])


def measure(path, pid, server, count):
    """(share of a core, first, median and last in seconds from the slot's ready)"""
    waiting = [socket.create_connection((PROXY, 5000)) for _ in range(count)]
    for connection in waiting:
        connection.sendall(b"Q")
    until(lambda: held_connections(path) >= count, 10, f"{count} connections are held")
    time.sleep(1)
    used, begun = cpu_seconds(pid), time.monotonic()
    time.sleep(MEASURED)
    share = (cpu_seconds(pid) - used) / (time.monotonic() - begun)

    poll, left = select.epoll(), {connection.fileno() for connection in waiting}
    for number in left:
        poll.register(number, select.EPOLLIN)
    begun, served = time.monotonic(), []
    haproxy.ask(path, "set server primary/pg1 state ready")
    while left and time.monotonic() - begun < 10:
        for number, _ in poll.poll(0.1):
            served.append(time.monotonic() - begun)
            left.discard(number)
            poll.unregister(number)
    haproxy.ask(path, "set server primary/pg1 state maint")
    for connection in waiting:
        connection.close()
    server.close_sessions()
    until(lambda: held_connections(path) <= 1, 10, "every connection is closed")
    if left:
        raise SystemExit(f"{len(left)} of {count} connections were not served")
    return share, served


def run(given, server, *options):
    with tempfile.TemporaryDirectory(prefix="pointsman-bench.") as folder:
        folder = pathlib.Path(folder)
        (folder / "pointsman.yml").write_text(SETTINGS.replace("FOLDER", str(folder)).replace("PROXY", PROXY))
        (folder / "haproxy.cfg").write_text(haproxy.configuration(given.pointsman, folder / "pointsman.yml", *options))
        with open(folder / "log", "wb") as log:
            proxy = subprocess.Popen([given.haproxy, "-db", "-f", folder / "haproxy.cfg"], stdout=log, stderr=log)
        try:
            path = folder / "haproxy.sock"
            until(path.exists, 10, "HAProxy's socket exists", every=0.01)
            haproxy.ask(path, f"set server primary/pg1 addr {SERVER} port 5432")
            haproxy.ask(path, "disable health primary/pg1")
            for count in given.held:
                share, served = measure(path, proxy.pid, server, count)
                times = (" | ".join(f"{1000 * at:.0f}" for at in (served[0], served[len(served) // 2], served[-1]))
                         if served else "– | – | –")
                print(f"| {'retries' if options else 'hold.lua'} | {count} | {100 * share:.1f} | {times} |", flush=True)
        finally:
            proxy.kill()
            proxy.wait()


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/hold", description=__doc__)
    parser.add_argument("--haproxy", default="/usr/sbin/haproxy")
    parser.add_argument("--pointsman", default=ROOT / "build/release/pointsman")
    parser.add_argument("--held", type=lambda text: [int(number) for number in text.split(",")],
                        default=[0, 200, 1000, 2000, 4000], help="how many connections, e.g. 0,200,1000")
    given = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    server = Server()
    print("| | held | % of a core | first served (ms) | median | last |\n|---|---|---|---|---|---|")
    run(given, server)
    run(given, server, "--no-lua")


if __name__ == "__main__":
    main()
