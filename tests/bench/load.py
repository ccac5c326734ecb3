"""Clients of one system: a new connection every PERIOD seconds, as long as fewer than WORKERS are under way, and KEPT
sessions that are used as often.

As a program:  load.py write|read DSN PERIOD WORKERS KEPT   runs until its standard input ends and writes one JSON object a
line for each attempt: {"kind": "write"|"read"|"kept write"|"kept read", "start":..., "end":..., "ok":..., "phase":
"connect"|"query", "error":..., "code":..., "node":...}. Times are of CLOCK_MONOTONIC, which all processes share. Of a kept
session every statement is a line, and so is its end.
"""

import json
import queue
import subprocess
import sys
import threading
import time

import psycopg2

STATEMENT = {"write": "INSERT INTO bench DEFAULT VALUES RETURNING host(inet_server_addr())",
             "read": "SELECT host(inet_server_addr())"}


class Program:
    def __init__(self, kind, dsn, period):
        self.kind = kind
        self.dsn = dsn
        self.period = period
        self.ending = threading.Event()
        self.lock = threading.Lock()
        self.due = queue.SimpleQueue()
        self.idle = 0

    def run(self, workers, kept):
        self.idle = workers
        threads = [threading.Thread(target=self.worker) for _ in range(workers)]
        threads += [threading.Thread(target=self.kept_session) for _ in range(kept)]
        threads.append(threading.Thread(target=self.clock))
        for thread in threads:
            thread.start()
        sys.stdin.read()
        self.ending.set()
        for _ in range(workers):
            self.due.put(False)
        for thread in threads:
            thread.join()

    def clock(self):
        due = time.monotonic()
        while not self.ending.wait(max(0, due - time.monotonic())):
            due = max(due + self.period, time.monotonic())
            with self.lock:
                free = self.idle > 0
                self.idle -= free
            if free:
                self.due.put(True)

    def worker(self):
        while self.due.get():
            self.attempt()
            with self.lock:
                self.idle += 1

    def connect(self):
        connection = psycopg2.connect(self.dsn, application_name=f"bench {self.kind}")
        connection.autocommit = True
        return connection

    def ask(self, connection):
        with connection.cursor() as cursor:
            cursor.execute(STATEMENT[self.kind])
            return cursor.fetchone()[0]

    def attempt(self):
        start, phase, node, problem = time.monotonic(), "connect", None, None
        try:
            connection = self.connect()
            phase = "query"
            try:
                node = self.ask(connection)
                end = time.monotonic()
            finally:
                connection.close()
        except psycopg2.Error as error:
            problem, end = error, time.monotonic()
        self.record(self.kind, start, end, phase, problem, node)

    def kept_session(self):
        while not self.ending.is_set():
            start, phase, node, problem = time.monotonic(), "connect", None, None
            try:
                connection = self.connect()
                phase = "query"
                while not self.ending.is_set():
                    start = time.monotonic()
                    node = self.ask(connection)
                    self.record("kept " + self.kind, start, time.monotonic(), phase, None, node)
                    self.ending.wait(self.period)
                connection.close()
                return
            except psycopg2.Error as error:
                problem = error
            self.record("kept " + self.kind, start, time.monotonic(), phase, problem, node)
            self.ending.wait(self.period)

    def record(self, kind, start, end, phase, problem, node):
        line = json.dumps({"kind": kind, "start": start, "end": end, "ok": problem is None, "phase": phase,
                           "error": " ".join(str(problem).split()) if problem else None,
                           "code": problem.pgcode if problem else None, "node": node})
        with self.lock:
            print(line, flush=True)


class Load:
    """The program above, for writes and for reads, started and read by the driver."""

    def __init__(self, folder, dsns, period=0.01, workers=40, kept=2):
        self.files, self.processes, self.lines = [], [], []
        for kind, dsn in dsns.items():
            path = folder / f"load.{kind}.{time.monotonic_ns()}.jsonl"
            with open(path, "wb") as output:
                self.processes.append(subprocess.Popen(
                    [sys.executable, "-B", __file__, kind, dsn, str(period), str(workers), str(kept)],
                    stdin=subprocess.PIPE, stdout=output, start_new_session=True))
            self.files.append(open(path, encoding="utf-8"))  # closed by kill()
            path.unlink()
        self.rest = {file: "" for file in self.files}

    def records(self, since):
        """Attempts that were still under way at `since` or began later, as far as they have ended."""
        for file in self.files:
            *whole, self.rest[file] = (self.rest[file] + file.read()).split("\n")
            self.lines += map(json.loads, whole)
        return [line for line in self.lines if line["end"] >= since]

    def served(self, node, since):
        """Those of them that the node served."""
        return [line for line in self.records(since) if line["ok"] and line["node"] == node.address]

    def stop(self):
        """Lets every attempt end, and returns when they have."""
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait(120)

    def kill(self):
        """Ends it at once. Safe to repeat."""
        for process in self.processes:
            process.kill()
            process.wait()
        for file in self.files:
            file.close()


if __name__ == "__main__":
    Program(sys.argv[1], sys.argv[2], float(sys.argv[3])).run(int(sys.argv[4]), int(sys.argv[5]))
