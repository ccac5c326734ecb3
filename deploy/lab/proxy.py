"""HAProxy as it may be run: one process, daemons of which each takes the ports over from the one before, or a master with
workers. Its processes are found by their configuration file, so that those which a reload left behind are ended too."""

import os
import signal
import time

from . import haproxy
from .processes import end_pids
from .wait import until

PROGRAM = "/usr/sbin/haproxy"
PLAIN, SEAMLESS, MASTER = "plain", "seamless", "master"


class Proxy:
    def __init__(self, folder, processes):
        self.processes = processes
        self.way = PLAIN
        self.file = folder / "haproxy.cfg"
        self.socket = folder / "haproxy.sock"
        self.master_socket = folder / "master.sock"
        self.log = folder / "haproxy.log"

    def start(self):
        """Back when it answers."""
        self._run({PLAIN: ["-db"], SEAMLESS: ["-D"], MASTER: ["-W", "-db", "-S", self.master_socket]}[self.way])
        until(self.identity, 10, "HAProxy answers on its socket", every=0.002)

    def reload(self):
        """Returns the time at which it was asked for, at once with a master, else when the new process has the ports."""
        if self.way == MASTER:
            # A master that has not yet done with its last reload loses the signal.
            until(self._master_answers, 10, "HAProxy's master answers", every=0.002)
            asked = time.monotonic()
            self.processes.signal("haproxy", signal.SIGUSR2)
        else:
            serving = until(self.identity, 10, "HAProxy answers on its socket")[0]
            asked = time.monotonic()
            self._run(["-D", "-x", self.socket, "-sf", serving])
        return asked

    def end(self, number):
        """Signals every one of its processes, those of before a reload too, and waits until they are gone."""
        end_pids(self.pids(), number, 10, "HAProxy's processes end")
        self.processes.reap("haproxy")

    def identity(self):
        """Process id and start of the process that answers, or None."""
        try:
            return haproxy.identity(self.socket)
        except (OSError, KeyError):
            return None

    def pids(self):
        """Its processes, a master and what a reload left behind included."""
        ours = f"\0-f\0{self.file}\0".encode()
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    with open(f"/proc/{entry}/cmdline", "rb") as words:
                        if ours in words.read():
                            found.append(int(entry))
                except OSError:
                    pass
        return found

    def _master_answers(self):
        try:
            return "worker" in haproxy.ask(self.master_socket, "show proc")
        except OSError:
            return False

    def _run(self, options):
        self.processes.start("haproxy", [PROGRAM, *options[:1], "-f", self.file, *options[1:]], self.log)
        if self.way == SEAMLESS:
            self.processes.reap("haproxy")
