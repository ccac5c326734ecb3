"""Faults at random on a real cluster under writers and readers, one at a time or two that overlap, and what must hold.

The same seed gives the same sequence of faults. Exit status 1: an invariant was broken; the seed, the fault and the
evidence are printed, logs are in build/chaos/<seed>/, the table is build/chaos/table.md.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "deploy")]
sys.path.append(str(ROOT / "tests/e2e"))

import psycopg2  # noqa: E402

from lab import interrupt  # noqa: E402
from lab.clients import Clients, create_ledger  # noqa: E402
from lab.processes import children  # noqa: E402
from lab.sampler import Sampler  # noqa: E402
from lab.wait import Late  # noqa: E402

import checks  # noqa: E402
from kinds import KINDS, World  # noqa: E402
import parts  # noqa: E402
import table  # noqa: E402

SKIPPED = 77
CANNOT = (Late, OSError, RuntimeError, ValueError, psycopg2.Error)  # a fault that meets the wrong moment
INSIDE = "POINTSMAN_CHAOS_NAMESPACE"
WHOLE_WITHIN = 240  # seconds: a lease, a node that is made anew, and a busy machine
OVERLAP = 0.2  # of the turns have two faults
WRITERS, READERS, KEPT = 4, 2, 2
QUICK = ["agent: kill -9 and start", "switchover", "HAProxy: reload in the midst of a switchover", "garbage in etcd",
         "leader: kill -9 of PostgreSQL", "HAProxy: kill -9 of the worker and start", "network: agent from the leader",
         "etcd: kill -9 of one member", "agent: ten SIGHUP", "replica: fast shutdown of PostgreSQL",
         "network: leader from HAProxy", "hostile members", "agent: killed again and again in a switchover"]
GROWTH = 4.0  # MiB of resident memory within one life of the agent
SAME_LINE = 60  # times a minute


class Sequence:
    """Which faults come when: every kind once before any comes again, drawn from the seed alone."""

    def __init__(self, seed, names, overlap):
        self.seed, self.names, self.overlap = seed, names, overlap
        self.chance = random.Random(seed)
        self.deck = []

    def next(self):
        kinds = [self._draw(frozenset())]
        if self.chance.random() < self.overlap:
            second = self._draw(kinds[0].touches)
            if second:
                kinds.append(second)
        return kinds

    def _draw(self, touched):
        if not self.deck:
            self.deck = list(self.names)
            self.chance.shuffle(self.deck)
        for name in self.deck:
            if not KINDS[name].touches & touched:
                self.deck.remove(name)
                return KINDS[name]
        return None


class Soak:
    def __init__(self, options):
        self.options = options
        self.folder = pathlib.Path("/dev/shm/chaos")
        self.results = options.results / str(options.seed)
        self.turns, self.wrong = [], []
        self.busiest = 0.0  # the machine's load, whoever it is due to
        self.figures = {}

    def run(self):
        self.lab = parts.Cluster(self.folder, self.options.pointsman)
        begun = time.monotonic()
        self.lab.start(3)
        create_ledger(self.lab.wait_writable())
        print(f"cluster up in {time.monotonic() - begun:.0f} s", flush=True)
        nodes = [self.lab.node(number) for number in range(1, 5)]
        sampler = Sampler(self.lab, period=0.01)
        load = Clients(self.lab, WRITERS, READERS, KEPT)
        load.number = WRITERS + READERS + KEPT
        self.world = World(self.lab, None)
        self.checks = checks.Checks(self.lab, self.world, load, sampler, nodes)
        self.lives = checks.Lives(self.lab)
        deadline = begun + 60 * self.options.minutes
        for number, kinds in enumerate(self.sequence()):
            if time.monotonic() > deadline:
                break
            self.turn(number, kinds)
        self.last(load, sampler)

    def sequence(self):
        if self.options.once or self.options.quick:
            yield from ([KINDS[name]] for name in self.options.faults)
            return
        sequence = Sequence(self.options.seed, self.options.faults, self.options.overlap)
        while True:
            yield sequence.next()

    def turn(self, number, kinds):
        names = [kind.name for kind in kinds]
        self.busiest = max(self.busiest, os.getloadavg()[0])
        self.world.notes.clear()
        self.world.chance = random.Random(f"{self.options.seed}/{number}")
        self.lives.look()
        print(f"{number + 1:4} {time.strftime('%H:%M:%S', time.gmtime())} {' + '.join(names)}", end="", flush=True)
        begun = time.monotonic()
        self.inject(kinds)
        ended = time.monotonic()
        try:
            anew = self.lab.wait_whole(WHOLE_WITHIN)
        except Late as late:
            self.note(names, [("not whole", str(late), self.state())])
            raise
        whole = time.monotonic()
        wrong, report = self.checks.turn(begun, ended, whole, kinds)
        self.lives.look()
        self.turns.append({"number": number + 1, "kinds": names, "begun": begun, "made anew": anew, "notes": list(self.world.notes),
                           **report})
        print(f": {report['lasted']:.0f} s, whole {report['whole after']:.1f} s later, failed "
              f"{report['failed writes']} w {report['failed reads']} r, cut {report['sessions cut']}, outage "
              f"{report['outage']:.1f} s{', made anew: ' + ', '.join(anew) if anew else ''}"
              f"{', ' + '; '.join(self.world.notes) if self.world.notes else ''}", flush=True)
        for error, times in report["errors"].items():
            print(f"       {times} x {error[:150]}", flush=True)
        self.note(names, wrong)

    def inject(self, kinds):
        """Both halves of every fault, the second fault within the first."""
        lasts = [kind.lasts[0] if self.options.quick else self.world.chance.uniform(*kind.lasts) for kind in kinds]
        later = self.world.chance.uniform(0, 3)
        try:
            with kinds[0].run(self.world):
                if len(kinds) > 1:
                    time.sleep(later)
                    self.inject_second(kinds[1], lasts[1])
                time.sleep(lasts[0])
        except CANNOT as problem:
            self.world.notes.append(f"not carried out: {problem}")
        self.lab.heal()

    def inject_second(self, kind, lasts):
        try:
            with kind.run(self.world):
                time.sleep(lasts)
        except CANNOT as problem:
            self.world.notes.append(f"the second not carried out: {problem}")

    def note(self, names, wrong):
        """Keeps what was wrong: of the same, the first few with their evidence and the number of all."""
        found = {}
        for rule, text, evidence in wrong:
            found.setdefault((rule, text), []).append(evidence)
        for (rule, text), evidence in found.items():
            self.wrong.append({"seed": self.options.seed, "turn": len(self.turns), "faults": names, "rule": rule,
                               "text": text, "times": len(evidence), "evidence": evidence[:3],
                               "monotonic": time.monotonic(), "utc": time.strftime("%FT%TZ", time.gmtime())})
            print(f"     BROKEN {rule} ({len(evidence)} times): {text}\n"
                  f"       {json.dumps(evidence[0], default=str)[:500]}", flush=True)

    def state(self):
        def asked(action):
            try:
                return action()
            except (OSError, RuntimeError, ValueError) as error:
                return repr(error)
        return {"slots": asked(self.lab.slots), "sync": asked(self.lab.synchronous), "leader": str(self.lab.leader()),
                "nodes": {node.name: node.get("/patroni")[1] for node in self.lab.nodes()},
                "running": self.lab.processes.running()}

    def last(self, load, sampler):
        """The reckoning."""
        load.stop()
        end = time.monotonic()
        wrong = list(self.checks.writes(self.checks.lines.fresh()))
        wrong += self.checks.lost(everything=True)
        samples = sampler.stop()
        self.checks.counts["slots sampled"] = samples["samples"]
        self.lives.look()
        figures = self.lives.figures()
        if figures["growth within one life (MiB)"] > GROWTH or figures["growth of files within one life"] > 4:
            wrong.append(("agent", "its memory or its open files grow", figures))
        loud = checks.repetitions(self.lab.agent_log)
        if loud and loud[0][0] > SAME_LINE:
            wrong.append(("log", f"the agent's log says the same {loud[0][0]} times in one minute", loud))
        self.note(["the end"], wrong)
        self.figures = {"seed": self.options.seed, "minutes": (end - self.turns[0]["begun"]) / 60 if self.turns else 0.0,
                        "the machine's load average, at most": self.busiest, **self.checks.counts, "rows lost to a leader that was not synchronous": self.checks.uncovered,
                        "faults not carried out": sum("not carried out" in note for turn in self.turns
                                                      for note in turn["notes"]),
                        **{f"the agent's {name}": value for name, value in figures.items()},
                        "the agent's most frequent line, times in a minute": loud[0][0] if loud else 0}

    def keep(self):
        shutil.rmtree(self.results, ignore_errors=True)
        self.results.mkdir(parents=True)
        (self.results / "turns.json").write_text(json.dumps(self.turns, indent=1))
        (self.results / "broken.json").write_text(json.dumps(self.wrong, indent=1, default=str))
        for pattern in ("*.log", "*.jsonl", "*.cfg", "*.yml"):
            for file in self.folder.glob(pattern):
                shutil.copy(file, self.results)
        text = table.markdown(self.turns, self.wrong, self.figures)
        (self.options.results / "table.md").write_text(text)
        print("\n" + text, flush=True)


def inside(options):
    """As a child of the first process of a process namespace: when that ends, all end, whatever state they are in."""
    interrupt.install()
    soak = Soak(options)
    status = 0
    try:
        soak.run()
    except interrupt.Interrupted as why:
        print(f"\ninterrupted: {why}", flush=True)
        status = 130
    except Exception:
        traceback.print_exc()
        status = 1
    try:
        soak.keep()
    finally:
        if soak.wrong:
            print(f"{len(soak.wrong)} invariants broken: --seed {options.seed}, logs in {soak.results}", flush=True)
            status = status or 1
    return status


def outside():
    """Runs the same program in namespaces of its own: network, mounts and processes vanish with it."""
    script = 'mount -t tmpfs -o size=60% shm /dev/shm && "$@"; exit $?'
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
               "--mount-proc", "sh", "-c", script, "sh", sys.executable, "-B", *sys.argv]
    process = subprocess.Popen(command, env={**os.environ, INSIDE: "1"}, start_new_session=True)

    def pass_on(number, _frame):
        for shell in children(process.pid):
            for python in children(shell):
                os.kill(python, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    return process.wait()


def arguments():
    parser = argparse.ArgumentParser(prog="tests/chaos/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--faults", help="names, or parts of names, with commas between them; default: all")
    parser.add_argument("--once", action="store_true", help="the faults given, each once and in this order")
    parser.add_argument("--quick", action="store_true", help="a few faults that are soon over, each once and short")
    parser.add_argument("--overlap", type=float, default=OVERLAP, help="how often two overlap (%(default)s)")
    parser.add_argument("--list", action="store_true", help="the names of all faults")
    parser.add_argument("--pointsman", type=lambda path: pathlib.Path(path).resolve(),
                        default=ROOT / "build/release/pointsman")
    parser.add_argument("--results", type=lambda path: pathlib.Path(path).resolve(), default=ROOT / "build/chaos")
    options = parser.parse_args()
    if options.list:
        print("\n".join(KINDS))
        sys.exit(0)
    if options.quick:
        options.faults, options.seed = ",".join(QUICK), options.seed or 1
    wanted = [part.strip() for part in options.faults.split(",")] if options.faults else []
    found = {part: [part] if part in KINDS else [name for name in KINDS if part in name]
             for part in wanted}
    unknown = [part for part, names in found.items() if not names]
    if unknown:
        parser.error(f"no such fault: {', '.join(unknown)}")
    options.faults = [name for part in wanted for name in found[part]] or list(KINDS)
    if options.seed is None:
        options.seed = random.randrange(1 << 32)
        sys.argv += ["--seed", str(options.seed)]
    return options


def main():
    options = arguments()
    if os.environ.get(INSIDE):
        sys.exit(inside(options))
    if os.geteuid() != 0:
        print("tests/chaos/soak: run it as root: it makes namespaces and runs PostgreSQL as the user postgres", flush=True)
        sys.exit(SKIPPED)
    print(f"seed {options.seed}, {len(options.faults)} kinds of fault", flush=True)
    sys.exit(outside())


if __name__ == "__main__":
    main()
