"""Processes that are started, recorded and ended by id.

A record is a process id and the time at which that process started, so that an id which the kernel has since given to
somebody else is never signalled. Records are on disk: a later command can end what an earlier one left running.
"""

import json
import os
import pwd
import signal
import subprocess

from . import interrupt
from .wait import Late, until

CLEAN_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def start_time(pid):
    """The process's start in clock ticks since boot; None where it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def alive(pid, started):
    """Whether the process that was started then is still there; one that was gone when its start was asked for is not."""
    return started is not None and start_time(pid) == started


def children(parent):
    """The ids of the process's children."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                    if int(stat.read().rpartition(")")[2].split()[1]) == parent:
                        found.append(int(entry))
            except OSError:
                pass
    return found


def family(pid):
    """The process and all its descendants."""
    return [pid] + [member for child in children(pid) for member in family(child)]


def signal_pid(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def end_pids(pids, number, seconds, what):
    """Signals them, and returns when all of them are gone."""
    ending = {pid: start_time(pid) for pid in pids}
    for pid in ending:
        signal_pid(pid, number)
    until(lambda: not any(alive(*process) for process in ending.items()), seconds, what, every=0.001)


class Processes:
    """The processes of one folder, in the order in which they were started."""

    def __init__(self, folder, die_with_parent):
        self.file = folder / "processes.json"
        self.die_with_parent = die_with_parent
        self.groups = {}  # of those that run in another group than their user's
        self.popen = {}  # our own children, so that they are reaped
        self.records = json.loads(self.file.read_text()) if self.file.exists() else {}

    def start(self, name, command, log, user="root"):
        """Runs the command in a session of its own, its output appended to log."""
        account = pwd.getpwnam(user)
        group = self.groups.get(name)
        drop = ["setpriv", f"--reuid={account.pw_uid}", f"--regid={group or account.pw_gid}",
                "--clear-groups" if group else "--init-groups"]
        if self.die_with_parent:
            drop += ["--pdeathsig", "TERM"]
        environment = {"PATH": CLEAN_PATH, "LANG": "C.UTF-8", "HOME": account.pw_dir, "USER": user}
        # Interrupted between the start and the record, the process would be lost.
        with interrupt.held(), open(log, "ab") as output:
            process = subprocess.Popen(drop + ["--"] + [str(word) for word in command], stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=output, env=environment, start_new_session=True, cwd="/")
            self.popen[name] = process
            self.records.pop(name, None)
            self.records[name] = [process.pid, start_time(process.pid)]
            self._save()
        return process.pid

    def pid(self, name):
        """The process's id, or None where it is not running."""
        if name in self.popen:
            self.popen[name].poll()
        pid, started = self.records.get(name, (0, None))
        return pid if alive(pid, started) else None

    def running(self):
        return [name for name in self.records if self.pid(name)]

    def kill(self, name):
        """kill -9, and gone when this returns."""
        self._end(name, signal.SIGKILL, 10)

    def kill_family(self, name):
        """kill -9 of the process and of all that it has started and is still the ancestor of."""
        pid = self.pid(name)
        if pid:
            descendants = family(pid)[1:]
            self.kill(name)
            for descendant in descendants:
                signal_pid(descendant, signal.SIGKILL)

    def stop(self, name, grace=10):
        """SIGTERM; SIGKILL when the grace is over. Returns whether it ended by itself."""
        try:
            self._end(name, signal.SIGTERM, grace)
            return True
        except Late:
            self.kill(name)
            return False

    def signal(self, name, number):
        pid = self.pid(name)
        if pid:
            signal_pid(pid, number)

    def _end(self, name, number, seconds):
        self.signal(name, number)
        until(lambda: not self.pid(name), seconds, f"{name} ends", every=0.01)
        self.reap(name)

    def reap(self, name):
        """Waits for a process that is ending, until its last thread has."""
        if name in self.popen:
            self.popen.pop(name).wait(timeout=10)

    def _save(self):
        partial = self.file.with_suffix(".new")
        partial.write_text(json.dumps(self.records))
        partial.replace(self.file)
