"""Clients of the two ports, in a process of their own: writers, readers, and sessions that are kept open.

As a program:  clients.py HOST PERIOD WRITERS READERS KEPT KEPT_READERS   runs until its standard input ends and writes
one JSON object a line for each attempt: {"kind": "write"|"read"|"kept"|"kept reader", "by":..., "start":..., "end":...,
"ok":..., "phase": "connect"|"query", "error":..., "code":..., "node":..., "id":..., "at":...}. Times are of
CLOCK_MONOTONIC, which all processes share.

A writer opens a new connection for each row; its row is acknowledged when the attempt is `ok`. A kept session writes on
one connection until that is cut, which is then its line: `start` when it was opened, `end` when the client saw the end.
A kept reader does the same with reads. Each of their rows and answers is a line of kind "kept write" or "kept read".
`by` is the client, `code` the error's SQLSTATE where the server gave one, `at` when it wrote, by the node's clock.
"""

import collections
import contextlib
import itertools
import json
import os
import pathlib
import select
import subprocess
import sys
import threading
import time

import psycopg2

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lab.wait import until

READ_ONLY = "25006"  # PostgreSQL's answer to a write on a standby
CONNECT_TIMEOUT = 40  # as long as HAProxy holds a connection
WRITE = "INSERT INTO ledger (id) VALUES (%s) RETURNING host(inet_server_addr()), extract(epoch FROM clock_timestamp())"
READ = "SELECT host(inet_server_addr()), NULL, (SELECT count(*) FROM (SELECT 1 FROM ledger LIMIT 10) AS sample)"


def connect(host, port, **options):
    connection = psycopg2.connect(host=host, port=port, user="postgres", dbname="postgres", **options)
    connection.autocommit = True
    return connection


class Program:
    def __init__(self, host, period):
        self.host = host
        self.period = period
        self.ending = threading.Event()
        self.lock = threading.Lock()

    def run(self, writers, readers, kept, kept_readers):
        threads = [threading.Thread(target=self.writer, args=(number,)) for number in range(writers)]
        threads += [threading.Thread(target=self.reader, args=(number,)) for number in range(readers)]
        threads += [threading.Thread(target=self.kept_session, args=(number,)) for number in range(kept)]
        threads += [threading.Thread(target=self.kept_reader, args=(number,)) for number in range(kept_readers)]
        for thread in threads:
            thread.start()
            self.ending.wait(self.period / max(1, len(threads)))  # staggered
        sys.stdin.read()
        self.ending.set()
        for thread in threads:
            thread.join()

    def writer(self, number):
        for turn in self.turns():
            row = f"{os.getpid()}-w{number}-{turn}"
            self.attempt("write", 5000, WRITE, (row,), row, f"w{number}")

    def reader(self, number):
        for _turn in self.turns():
            self.attempt("read", 5001, READ, (), None, f"r{number}")

    def turns(self):
        turn, due = 0, time.monotonic()
        while not self.ending.wait(max(0, due - time.monotonic())):
            yield turn
            turn, due = turn + 1, max(due + self.period, time.monotonic())

    def attempt(self, kind, port, statement, values, row, by):
        start, phase, node, at, problem = time.monotonic(), "connect", None, None, None
        try:
            connection = connect(self.host, port, connect_timeout=CONNECT_TIMEOUT, application_name=f"lab {kind}")
            phase = "query"
            try:
                with connection.cursor() as cursor:
                    cursor.execute(statement, values)
                    node, at = cursor.fetchone()[:2]
            finally:
                connection.close()
        except psycopg2.Error as error:
            problem = error
        self.record(kind, by, start, phase, problem, node, row, at)

    def kept_session(self, number):
        rows = (f"{os.getpid()}-k{number}-{turn}" for turn in itertools.count())
        self.keep("kept", f"k{number}", 5000, lambda: (WRITE, next(rows)))

    def kept_reader(self, number):
        self.keep("kept reader", f"kr{number}", 5001, lambda: (READ, None))

    def keep(self, kind, by, port, statement):
        each = "kept read" if kind == "kept reader" else "kept write"
        while not self.ending.is_set():
            start, phase, node, problem = time.monotonic(), "connect", None, None
            try:
                connection = connect(self.host, port, connect_timeout=CONNECT_TIMEOUT, application_name=f"lab {kind}")
                start, phase = time.monotonic(), "query"
                while not self.ending.is_set():
                    text, row = statement()
                    with connection.cursor() as cursor:
                        begun = time.monotonic()
                        cursor.execute(text, (row,) if row else ())
                        node, at = cursor.fetchone()[:2]
                    self.record(each, by, begun, "query", None, node, row, at)
                    # Nothing is due from the server: readable means that the session is cut, seen at once.
                    select.select([connection], [], [], self.period)
                connection.close()
            except psycopg2.Error as error:
                problem = error
            self.record(kind, by, start, phase, problem, node, None)
            self.ending.wait(0.05)

    def record(self, kind, by, start, phase, problem, node, row, at=None):
        end = time.monotonic()
        line = json.dumps({"kind": kind, "by": by, "start": start, "end": end, "ok": problem is None, "phase": phase,
                           "error": " ".join(str(problem).split()) if problem else None,
                           "code": problem.pgcode if problem else None, "node": node, "id": row,
                           "at": float(at) - time.time() + end if at else None})
        with self.lock:
            print(line, flush=True)


class Clients:
    """The program above, started and read by the driver."""

    def __init__(self, lab, writers=4, readers=2, kept=2, kept_readers=0, period=0.1):
        self.file = lab.folder / f"clients.{time.monotonic_ns()}.jsonl"
        with open(self.file, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-B", __file__, lab.proxy_address, str(period),
                 *map(str, (writers, readers, kept, kept_readers))],
                stdin=subprocess.PIPE, stdout=output, start_new_session=True)

    def records(self, since=0.0):
        """Attempts that were still under way at `since` or began later, as far as they have ended."""
        text = self.file.read_text()
        lines = map(json.loads, text[:text.rfind("\n") + 1].splitlines())
        return [line for line in lines if line["end"] >= since]

    def wait_served(self, kind, node, since, seconds):
        """The end of the first attempt of the kind, begun after `since`, that this node served."""
        def served():
            return next((line for line in self.records(since)
                         if line["ok"] and line["kind"] == kind and line["node"] == node.address
                         and line["start"] >= since), None)
        return until(served, seconds, f"{node.name} serves a {kind}")["end"]

    def stop(self):
        """Lets every attempt end. Safe to repeat."""
        self.process.communicate(timeout=CONNECT_TIMEOUT + 20)

    def kill(self):
        """Ends it at once. Safe to repeat."""
        self.process.kill()
        self.process.communicate()


class Summary:
    """What the clients of one kind saw."""

    def __init__(self, records, kind):
        attempts = [line for line in records if line["kind"] == kind]
        failed = [line for line in attempts if not line["ok"]]
        self.count = len(attempts)
        self.refused = [line for line in failed if line["phase"] == "connect"]  # no session came to be
        self.cut = [line for line in failed if line["phase"] == "query"]  # a session that was cut
        self.longest = max((line["end"] - line["start"] for line in attempts), default=0.0)
        self.nodes = collections.Counter(line["node"] for line in attempts if line["ok"])

    @property
    def failures(self):
        return self.refused + self.cut

    def errors(self, most=5):
        return [f"{line['phase']} at {line['end']:.3f}: {line['error']}" for line in self.failures[:most]]


def acknowledged(records):
    return {line["id"] for line in records if line["ok"] and line["id"]}


@contextlib.contextmanager
def _directly(node):
    connection = connect(node.address, 5432, connect_timeout=5)
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def execute(node, statement, *values):
    """What the node itself answers: its rows, or None."""
    with _directly(node) as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else None


def create_ledger(node):
    execute(node, "CREATE TABLE IF NOT EXISTS ledger (id text PRIMARY KEY, at timestamptz DEFAULT now())")


def ledger(node):
    """The ids that the node itself has."""
    return {row[0] for row in execute(node, "SELECT id FROM ledger")}


def wait_rows(node, ids, seconds=20):
    """Every one of these rows is on the node."""
    until(lambda: ids <= ledger(node), seconds, f"{node.name} has all {len(ids)} rows", every=0.2)


if __name__ == "__main__":
    Program(sys.argv[1], float(sys.argv[2])).run(*map(int, sys.argv[3:7]))
