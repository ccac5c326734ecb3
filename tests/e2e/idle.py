#!/usr/bin/python3
"""Memory and CPU of the idle agent on a cluster of four nodes, beside what it works with. Not a test: a measurement.

  tests/e2e/idle.py [--pointsman FILE] [--seconds 60]
"""

import argparse
import os
import pathlib
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import scenario
from lab import cluster, interrupt
from lab.processes import family

TICKS = os.sysconf("SC_CLK_TCK")


def memory(pids):
    """(resident, proportional) in MiB; shared pages count in full in the first, by their share in the second."""
    total = {"Rss": 0, "Pss": 0}
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                name, _, value = line.partition(":")
                if name in total:
                    total[name] += int(value.split()[0])
    return total["Rss"] / 1024, total["Pss"] / 1024


def cpu(pids):
    """Seconds of processor time so far."""
    used = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                fields = stat.read().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return used / TICKS


def groups(lab):
    """The processes to compare, by name."""
    found = {"pointsman": [lab.processes.pid("pointsman")], "haproxy": [lab.processes.pid("haproxy")],
             "etcd": [lab.processes.pid("etcd")]}
    for node in lab.nodes():
        found[f"patroni {node.name}"] = [lab.processes.pid(node.name)]
        found[f"postgres {node.name}"] = family(node.postmaster())
    return found


def report(lab, seconds):
    before = {name: cpu(pids) for name, pids in groups(lab).items()}
    time.sleep(seconds)
    print(f"{'':<18}{'processes':>10}{'RSS MiB':>10}{'PSS MiB':>10}{'CPU %':>10}   idle for {seconds:.0f} s, "
          f"CPU in per cent of one core")
    for name, pids in groups(lab).items():
        resident, proportional = memory(pids)
        print(f"{name:<18}{len(pids):>10}{resident:>10.1f}{proportional:>10.1f}"
              f"{100 * (cpu(pids) - before[name]) / seconds:>10.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pointsman", type=pathlib.Path, default=scenario.given.pointsman)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--network", default="127.0.49")
    options = parser.parse_args()
    interrupt.install()
    with tempfile.TemporaryDirectory(prefix="pointsman-idle.", dir=cluster.state_parent()) as parent:
        os.chmod(parent, 0o755)
        lab = cluster.Lab.create(pathlib.Path(parent) / "lab", options.network, options.pointsman, cluster.PRODUCTION)
        try:
            lab.start(4)
            time.sleep(10)  # what the start left to do is done
            report(lab, options.seconds)
        finally:
            lab.destroy()


if __name__ == "__main__":
    main()
