"""Failovers as clients see them: libpq alone, HAProxy's own checks, confd with reloads, and Pointsman, on one cluster, in
one run, one after the other in every round. Only the system whose turn it is has clients."""

import argparse
import base64
import json
import os
import pathlib
import shutil
import socket
import sys
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "deploy"))

from lab import clients, cluster, interrupt  # noqa: E402
from lab.processes import start_time  # noqa: E402
from lab.wait import until  # noqa: E402

import report  # noqa: E402
import systems  # noqa: E402
from load import Load  # noqa: E402

EVENTS = ["switchover", "crash", "join and leave", "reload"]
NODES = 4  # the last one joins and leaves
NOTICE = 12  # seconds from the announcement of a leave to the stop: more than HAProxy's checks need


class LeaderKey:
    """When the leader key changed, from a watch."""

    def __init__(self, lab):
        self.changes = []  # (time, name or None)
        key = base64.b64encode(lab.key("leader").encode()).decode()
        request = urllib.request.Request(lab.etcd.url + "/v3/watch",
                                         json.dumps({"create_request": {"key": key}}).encode())
        self.stream = urllib.request.urlopen(request, timeout=3600)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.stream:
            at = time.monotonic()
            for event in json.loads(line).get("result", {}).get("events", []):
                value = base64.b64decode(event["kv"].get("value", "")).decode()
                self.changes.append((at, None if event.get("type") == "DELETE" else value))

    def names(self, node, since):
        return next((at for at, name in list(self.changes) if at >= since and name == node.name), None)


class DirectWrites:
    """When each of these nodes itself first took a write, asked every 3 ms."""

    def __init__(self, nodes):
        self.first = {}  # node's address: time
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(node,), daemon=True) for node in nodes]
        for thread in self.threads:
            thread.start()

    def _ask(self, node):
        connection = None
        while not self.ending.wait(0.003):
            try:
                connection = connection or clients.connect(node.address, 5432, connect_timeout=2)
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO bench DEFAULT VALUES")
                self.first[node.address] = time.monotonic()
                break
            except clients.psycopg2.OperationalError:
                connection = None
            except clients.psycopg2.Error:
                pass  # read-only as yet
        if connection:
            connection.close()

    def stop(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(10)


def refuses(node):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((node.address, 5432)) != 0


def sessions_of_writers(node):
    return clients.execute(node, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bench write'")[0][0]


class Bench:
    def __init__(self, lab, options):
        self.lab = lab
        self.options = options
        self.key = None
        self.rows = []
        self.failures = []

    def run(self):
        lab = self.lab
        lab.start_etcd()
        first = lab.start_node(1)
        until(first.writable, 90, "the first node takes writes")
        lab.wait_streaming(*[lab.start_node(number) for number in range(2, NODES)])
        clients.execute(first, "CREATE TABLE bench (id bigserial PRIMARY KEY, at timestamptz DEFAULT now())")
        lab.wait_complete()
        self.key = LeaderKey(lab)
        compared = [kind(lab, self.options) for kind in systems.ALL if kind.name in self.options.systems]
        for system in compared:
            system.start()
        begun = time.monotonic()
        for number in range(self.options.rounds):
            turn = number % len(compared)
            for system in compared[turn:] + compared[:turn]:
                self.turn(number + 1, system)
                print(f"{time.monotonic() - begun:6.0f} s  round {number + 1}  {system.name}", flush=True)

    def turn(self, number, system):
        load = Load(self.lab.folder, system.dsns())
        try:
            self.settle(load)
            for event in self.options.events:
                self.event(number, system, load, event)
            load.stop()
        finally:
            load.kill()

    def settle(self, load):
        """The cluster is complete and the system serves writes on the leader, and reads."""
        anew = self.lab.wait_complete()
        if anew:
            print(f"made anew, for they did not come back: {', '.join(anew)}", flush=True)
        leader, since = self.lab.leader(), time.monotonic()
        until(lambda: any(line["kind"] == "write" and line["start"] >= since for line in load.served(leader, since)), 90,
              f"{leader.name} serves a write", every=0.1)
        until(lambda: any(line["ok"] and line["kind"] == "read" and line["start"] >= since
                          for line in load.records(since)), 90, "a read is served", every=0.1)

    def event(self, number, system, load, event):
        old = self.lab.wait_writable()
        commands, reloads, log = system.commands(), system.reloads(), len(system.log())
        row = {"round": number, "system": system.name, "event": event, "old": old.name}
        begun = time.monotonic()
        act = {"switchover": self.switchover, "crash": self.crash, "join and leave": self.join_and_leave,
               "reload": self.reload}[event]
        found = act(system, load, old)
        if found is None:
            return
        self.settle(load)
        lines = load.records(begun)
        row |= found()
        for kind in ("write", "read"):
            failed = [line for line in lines if line["kind"] == kind and not line["ok"]]
            handed = [line for line in failed if line["start"] < row.get("dead", 0)]
            row[f"{kind}s"] = sum(line["kind"] == kind for line in lines)
            row[f"failed {kind}s"] = len(failed) - len(handed)
            row[f"{kind}s handed to the dying node"] = len(handed)
            for line in failed:
                self.failures.append({"round": number, "system": system.name, "event": event, "kind": kind,
                                      "start": round(line["start"] - begun, 4), "end": round(line["end"] - begun, 4),
                                      "phase": line["phase"], "code": line["code"], "error": line["error"]})
        row["wrongly routed writes"] = sum(line["code"] == clients.READ_ONLY for line in lines)
        row["commands"] = system.commands() - commands
        row["reloads"] = system.reloads() - reloads
        row |= report.own_times(system.log()[log:])
        row.pop("dead", None)
        self.rows.append(row)

    def switchover(self, _system, load, old):
        new = next(node for node in self.lab.running_nodes() if node.name not in (old.name, f"node{NODES}"))
        direct = DirectWrites([new])
        begun = self.lab.switchover(new)
        return self.outcome(load, old, begun, direct, {})

    def crash(self, _system, load, old):
        others = [node for node in self.lab.running_nodes() if node.name != old.name]
        direct = DirectWrites(others)
        begun = time.monotonic()
        self.lab.crash_node(old)
        until(lambda: refuses(old), 10, f"{old.name} is dead", every=0.0005)
        dead = time.monotonic()
        return self.outcome(load, old, begun, direct, {"dead": dead}, restart=True)

    def outcome(self, load, old, begun, direct, more, restart=False):
        """What a change of leader did to writers; to be called once it has settled."""
        new = until(lambda: self.named(old, begun), 90, "a new leader key", every=0.02)
        until(lambda: new.address in direct.first, 90, f"{new.name} takes writes", every=0.02)
        direct.stop()
        until(lambda: any(line["kind"].endswith("write") for line in load.served(new, begun)), 90,
              f"{new.name} serves a write", every=0.05)
        if restart:
            self.lab.start_node(int(old.name[4:]))
        key, writable = self.key.names(new, begun), direct.first[new.address]

        def measured():
            ends = sorted(line["end"] for line in load.records(begun - 1)
                          if line["ok"] and line["kind"].endswith("write"))
            wrote = min(line["end"] for line in load.served(new, begun) if line["kind"].endswith("write"))
            return {"new": new.name, "key": key - begun, "takes writes": writable - begun,
                    "node to first write": wrote - writable, "key to first write": wrote - key,
                    "outage": max(after - before for before, after in zip(ends, ends[1:])),
                    "sessions left": sessions_of_writers(old), **more}
        return measured

    def named(self, old, since):
        name = next((name for at, name in reversed(self.key.changes) if at >= since and name), None)
        return next((node for node in self.lab.nodes() if node.name == name and name != old.name), None)

    def join_and_leave(self, system, load, _old):
        node = self.lab.start_node(NODES)
        self.lab.wait_streaming(node)
        if not isinstance(system, systems.Floor):  # libpq reads from the first standby of its list
            begun = time.monotonic()
            until(lambda: any(line["kind"] == "read" for line in load.served(node, begun)), 60,
                  f"{node.name} serves reads", every=0.1)
        self.lab.set_noloadbalance(node, True)
        time.sleep(NOTICE)
        self.lab.stop_node(node)
        return dict

    def reload(self, system, _load, _old):
        if not system.reload():
            return None
        time.sleep(3)  # HAProxy's checks have judged every server once
        return dict


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/failover", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--events", type=lambda text: text.split(","), default=EVENTS, help=",".join(EVENTS))
    parser.add_argument("--systems", type=lambda text: text.split(","), default=[],
                        help="of " + ",".join(kind.name for kind in systems.ALL) + "; default: all, confd only where given")
    parser.add_argument("--confd", help="a confd program")
    parser.add_argument("--haproxy", default="/usr/sbin/haproxy")
    parser.add_argument("--timing", choices=["production", "fast"], default="production",
                        help="Patroni's defaults (ttl 30, loop_wait 10), or ttl 20, loop_wait 2")
    parser.add_argument("--pointsman", type=pathlib.Path, default=ROOT / "build/release/pointsman")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "build/bench/failover", help="a folder")
    parser.add_argument("--network", default="127.0.50", help="the first three numbers of a free loopback network")
    options = parser.parse_args()
    options.nodes = NODES
    options.systems = options.systems or [kind.name for kind in systems.ALL if kind is not systems.Confd or options.confd]
    unknown = set(options.events) - set(EVENTS) | set(options.systems) - {kind.name for kind in systems.ALL}
    if unknown:
        parser.error(f"not known: {', '.join(sorted(unknown))}")
    if "confd" in options.systems and not options.confd:
        parser.error("confd needs --confd PROGRAM")
    return options


def main():
    options = arguments()
    interrupt.install()
    prefix = "pointsman-bench."
    cluster.sweep(cluster.state_parent(), prefix)
    folder = cluster.state_parent() / f"{prefix}{os.getpid()}.{start_time(os.getpid())}"
    timing = {"production": cluster.PRODUCTION, "fast": cluster.FAST}[options.timing]
    lab = cluster.Lab.create(folder, options.network, options.pointsman, timing)
    bench = Bench(lab, options)
    try:
        bench.run()
    finally:
        options.results.mkdir(parents=True, exist_ok=True)
        for log in [*folder.glob("*.log"), *folder.glob("*/haproxy.log"), *folder.glob("*/confd.log")]:
            shutil.copy(log, options.results / "-".join(log.relative_to(folder).parts))
        lab.destroy()
        if bench.rows:
            report.write(options.results, bench.rows, bench.failures, report.machine(options, timing))
            print((options.results / "table.md").read_text())


if __name__ == "__main__":
    main()
