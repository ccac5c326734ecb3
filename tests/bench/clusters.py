"""A hundred clusters in one agent and one HAProxy: what they cost, and whether a broken one delays the others (R14).

etcd, HAProxy and the agent are real; the members are played by members.py, and switched over from here: the leader key
names another, and a while later that member says that it is writable.
"""

import argparse
import base64
import contextlib
import csv
import http.client
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import statistics
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "deploy"))

from lab import cluster, haproxy, interrupt  # noqa: E402
from lab.processes import start_time  # noqa: E402
from lab.wait import until  # noqa: E402
import report  # noqa: E402
from members import MEMBERS, Members, address  # noqa: E402

PROMOTION = 0.2  # seconds from the leader key to the new leader's yes; Patroni needs 0.2 to 1.2
SLOTS = 6
GARBAGE = 3000  # keys, 10 MB together
FLAPS = 50  # a second
SCRAPES = 50


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid, what):
    """In bytes; VmRSS is now, VmHWM the most ever."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


class Flapping(threading.Thread):
    """Writes a leader key in turn with two names, so many times a second, on one connection."""

    def __init__(self, url, key, names):
        super().__init__(daemon=True)
        self.host = url.removeprefix("http://")
        self.bodies = [json.dumps({"key": base64.b64encode(key.encode()).decode(),
                                   "value": base64.b64encode(name.encode()).decode()}) for name in names]
        self.ending = threading.Event()
        self.start()

    def run(self):
        connection = http.client.HTTPConnection(self.host, timeout=10)
        turn, due = 0, time.monotonic()
        while not self.ending.wait(max(0, due - time.monotonic())):
            turn, due = turn + 1, max(due + 1 / FLAPS, time.monotonic())
            connection.request("POST", "/v3/kv/put", self.bodies[turn % 2])
            connection.getresponse().read()
        connection.close()

    def stop(self):
        self.ending.set()
        self.join(10)


class Bench:
    def __init__(self, lab, options):
        self.lab, self.options = lab, options
        self.networks = [options.network, options.network_2]
        self.broken = options.clusters - 1
        self.leaders = [0] * options.clusters
        self.timelines = [1] * options.clusters
        self.chance = random.Random(1)
        self.members = None
        self.rows, self.rests, self.scrapes = [], [], []
        self.conditions = {"alone": contextlib.nullcontext, "REST APIs hung": lambda: self.rest("hung"),
                           "endless bodies": lambda: self.rest("endless"), "10 MB of garbage": self.garbage,
                           "backend missing": self.missing, "members vanish": self.vanished,
                           f"leader key flaps {FLAPS}/s": self.flapping, "names do not resolve": self.nameless}

    # The clusters

    def key(self, number, name):
        return f"/service/{self.scope(number)}/{name}"

    @staticmethod
    def scope(number):
        return f"c{number:03}"

    def member_keys(self, number, host=lambda at: at):
        def value(member):
            at = host(address(self.networks, number, member))
            return json.dumps({"conn_url": f"postgres://{at}:5432/postgres", "api_url": f"http://{at}:8008/patroni",
                               "state": "running", "role": "replica", "version": "3.0.2", "timeline": 1})
        return [(self.key(number, f"members/m{member}"), value(member)) for member in range(MEMBERS)]

    def settings(self, *more):
        def pools(scope):
            return [{"backend": f"{scope}-primary", "role": "primary", "check": "/master"},
                    {"backend": f"{scope}-replicas", "role": "replica", "check": "/replica", "fallback": "primary"}]
        scopes = [*map(self.scope, range(self.options.clusters)), *more]
        self.lab.settings.write_text(json.dumps({  # JSON is YAML too
            "haproxy": {"socket": str(self.lab.socket)}, "etcd": {"endpoints": [self.lab.etcd.url]},
            "clusters": [{"scope": scope, "pools": pools(scope)} for scope in scopes],
            "listen": f"{self.lab.proxy_address}:9127"}))

    def start(self):
        lab = self.lab
        self.members = Members(self.options.clusters, self.networks)
        lab.start_etcd()
        for number in range(self.options.clusters):
            lab.etcd.put_many([*self.member_keys(number), (self.key(number, "leader"), "m0")])
        self.settings()
        file = lab.folder / "haproxy.cfg"
        file.write_text(haproxy.configuration(lab.pointsman, lab.settings).replace("pg 1-8", f"pg 1-{SLOTS}"))
        lab.processes.start("haproxy", [self.options.haproxy, "-db", "-f", file], lab.folder / "haproxy.log")
        until(lab.socket.exists, 10, "HAProxy's socket exists", every=0.01)
        begun = time.monotonic()
        lab.start_agent()
        until(self.in_step, 60, "every cluster is in step")
        took = time.monotonic() - begun
        print(f"{self.options.clusters} clusters in step {took:.1f} s after the agent's start", flush=True)

    def slots(self, backend=""):
        rows = haproxy.ask(self.lab.socket, f"show servers state {backend}").splitlines()[2:]
        return [haproxy.parse_row(row.split()) for row in rows if row and row.split()[3] not in ("hold", "self")]

    def in_step(self, but=()):
        ready = {}
        for slot in self.slots():
            if slot.ready:
                ready.setdefault(slot.backend, []).append(slot.address)
        for number in set(range(self.options.clusters)) - set(but):
            at = [f"{address(self.networks, number, member)}:5432" for member in range(MEMBERS)]
            leader = at.pop(self.leaders[number])
            if (ready.get(f"{self.scope(number)}-primary") != [leader]
                    or sorted(ready.get(f"{self.scope(number)}-replicas", [])) != sorted(at)):
                return False
        return True

    # What one cluster is broken by

    @contextlib.contextmanager
    def rest(self, mode):
        self.members.tell(self.broken, mode=mode)
        yield
        self.members.tell(self.broken, mode="well")

    @contextlib.contextmanager
    def garbage(self):
        filler = "x" * ((10 << 20) // GARBAGE)
        self.lab.etcd.put_many([(self.key(self.broken, f"garbage/{n:04}"), filler) for n in range(GARBAGE)])
        yield
        self.lab.etcdctl("del", "--prefix", self.key(self.broken, "garbage/"))

    @contextlib.contextmanager
    def missing(self):
        """One cluster more, which HAProxy has no backends for."""
        self.lab.etcd.put_many([(key.replace(self.scope(0), "lost"), value) for key, value in self.member_keys(0)])
        self.read_again("lost")
        yield
        self.read_again()

    def read_again(self, *more):
        self.settings(*more)
        logged = len(self.log())
        self.lab.processes.signal("pointsman", signal.SIGHUP)
        wanted = self.options.clusters + len(more)
        until(lambda: self.log()[logged:].count("read from etcd") == wanted, 30, "the agent has its new settings",
              every=0.2)

    @contextlib.contextmanager
    def vanished(self):
        self.lab.etcdctl("del", "--prefix", self.key(self.broken, ""))
        self.members.tell(self.broken, mode="gone")
        yield
        self.members.tell(self.broken, mode="well")
        self.lab.etcd.put_many([*self.member_keys(self.broken),
                                (self.key(self.broken, "leader"), f"m{self.leaders[self.broken]}")])

    @contextlib.contextmanager
    def flapping(self):
        key = self.key(self.broken, "leader")
        flapping = Flapping(self.lab.etcd.url, key, ["m0", "m1"])
        yield
        flapping.stop()
        self.lab.etcd.put(key, f"m{self.leaders[self.broken]}")

    @contextlib.contextmanager
    def nameless(self):
        self.lab.etcd.put_many(self.member_keys(self.broken, lambda at: f"h{at.replace('.', '-')}.invalid"))
        yield
        self.lab.etcd.put_many(self.member_keys(self.broken))

    # What is measured

    def run(self):
        self.start()
        self.scrape("before the first failover")
        begun = time.monotonic()
        for number in range(self.options.rounds):
            for name, broken in self.conditions.items():
                with broken():
                    time.sleep(self.options.settle)
                    self.measure(number, name)
                until(self.in_step, 60, f"every cluster is in step after '{name}'", every=0.2)
                print(f"{time.monotonic() - begun:6.0f} s  round {number + 1}  {name}", flush=True)
        self.scrape(f"after {len(self.rows)} failovers")

    def scrape(self, when):
        """/metrics as Prometheus gets it; the daemon ends the connection after each."""
        connection = http.client.HTTPConnection(self.lab.proxy_address, 9127, timeout=10)
        took = []
        for _ in range(SCRAPES):
            begun = time.monotonic()
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            took.append(1000 * (time.monotonic() - begun))
        connection.close()
        series = sum(not line.startswith("#") for line in text.splitlines())
        self.scrapes.append(f"A scrape of /metrics {when}: {len(text):,} bytes, {series:,} series, "
                            f"{statistics.median(took):.1f} ms, worst of {SCRAPES} {max(took):.1f} ms.")
        print(self.scrapes[-1], flush=True)

    def measure(self, number, name):
        self.at_rest(number, name)
        healthy = self.chance.sample(range(self.options.clusters - 1), self.options.switchovers)
        for chosen in healthy:
            self.rows.append({"round": number + 1, "condition": name, "cluster": chosen, **self.switchover(chosen)})

    def at_rest(self, number, name):
        pid = self.lab.processes.pid("pointsman")
        used, commands, begun = cpu_seconds(pid), self.commands(), time.monotonic()
        time.sleep(self.options.rest)
        took = time.monotonic() - begun
        self.rests.append({"round": number + 1, "condition": name, "cpu": 100 * (cpu_seconds(pid) - used) / took,
                           "commands": (self.commands() - commands) / took, "rss": memory(pid, "VmRSS") / (1 << 20)})

    def switchover(self, number):
        """In milliseconds: from the leader key to the old slot out, and from the new leader's yes to its slot ready."""
        backend = f"{self.scope(number)}-primary"
        old = f"{address(self.networks, number, self.leaders[number])}:5432"
        self.leaders[number] = (self.leaders[number] + 1) % MEMBERS
        self.timelines[number] += 1
        new = f"{address(self.networks, number, self.leaders[number])}:5432"

        def ready(at):
            return any(slot.ready and slot.address == at for slot in self.slots(backend))

        self.lab.etcd.put(self.key(number, "leader"), f"m{self.leaders[number]}")
        named = time.monotonic()
        until(lambda: not ready(old), 60, f"the old leader of {backend} is out", every=0.001)
        out = time.monotonic()
        self.members.tell(number, leader=None, timeline=self.timelines[number])
        time.sleep(max(0.0, named + PROMOTION - time.monotonic()))
        yes = self.members.tell(number, leader=self.leaders[number], timeline=self.timelines[number])
        until(lambda: ready(new), 60, f"the new leader of {backend} is in", every=0.001)
        return {"key to out ms": 1000 * (out - named), "yes to ready ms": 1000 * (time.monotonic() - yes)}

    def log(self):
        return self.lab.agent_log.read_text(errors="replace")

    def commands(self):
        return self.log().count('command="')

    # What comes of it

    def table(self):
        lines = ["| | % of a core | commands/s | memory (MiB) | leader key → old slot out (ms) | "
                 "new leader's yes → slot ready (ms) |", "|---|---|---|---|---|---|"]
        for name in self.conditions:
            rests = [row for row in self.rests if row["condition"] == name]
            rows = [row for row in self.rows if row["condition"] == name]
            if rows:
                mean = {what: statistics.mean(row[what] for row in rests) for what in ("cpu", "commands", "rss")}
                times = " | ".join(f"{statistics.median(values):.1f}, worst {max(values):.1f}" for values in
                                   ([row[what] for row in rows] for what in ("key to out ms", "yes to ready ms")))
                lines.append(f"| {name} (× {len(rows)}) | {mean['cpu']:.1f} | {mean['commands']:.1f} | "
                             f"{mean['rss']:.1f} | {times} |")
        return "\n".join(lines) + "\n"

    def machine(self):
        busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
        return (f"{report.hardware()}; load average at the end {busy}. {report.first_line(self.options.haproxy, '-v')}; "
                f"{report.first_line('/usr/bin/etcd', '--version')}. {self.options.clusters} clusters of {MEMBERS} "
                f"members, {2 * self.options.clusters} backends of {SLOTS} slots.")

    def write(self):
        folder = self.options.results
        with open(folder / "events.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows({key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}
                             for row in self.rows)
        (folder / "table.md").write_text("\n\n".join([self.machine(), self.table().rstrip(), *self.scrapes]) + "\n")


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/clusters", description=__doc__)
    parser.add_argument("--clusters", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--switchovers", type=int, default=10, help="in each round and condition")
    parser.add_argument("--settle", type=float, default=4.0, help="seconds between a fault and the measurement")
    parser.add_argument("--rest", type=float, default=8.0, help="seconds at rest")
    parser.add_argument("--haproxy", default="/usr/sbin/haproxy")
    parser.add_argument("--pointsman", type=pathlib.Path, default=ROOT / "build/release/pointsman")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "build/bench/clusters", help="a folder")
    parser.add_argument("--network", default="127.0.52", help="the first three numbers of a free loopback network")
    parser.add_argument("--network-2", default="127.0.53", help="and of another")
    return parser.parse_args()


def main():
    options = arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    interrupt.install()
    prefix = "pointsman-bench."
    cluster.sweep(cluster.state_parent(), prefix)
    folder = cluster.state_parent() / f"{prefix}{os.getpid()}.{start_time(os.getpid())}"
    lab = cluster.Lab.create(folder, options.network, options.pointsman, cluster.FAST)
    bench = Bench(lab, options)
    try:
        bench.run()
        pid = lab.processes.pid("pointsman")
        print(f"the agent's memory: {memory(pid, 'VmRSS') / (1 << 20):.1f} MiB, at most "
              f"{memory(pid, 'VmHWM') / (1 << 20):.1f}")
    finally:
        options.results.mkdir(parents=True, exist_ok=True)
        for log in folder.glob("*.log"):
            shutil.copy(log, options.results)
        lab.destroy()
        if bench.members:
            bench.members.stop()
        if bench.rows:
            bench.write()
            print((options.results / "table.md").read_text())


if __name__ == "__main__":
    main()
