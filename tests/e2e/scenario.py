"""What the scenarios share: a cluster, clients and a sampler, all ended whatever happens, and their figures."""

import argparse
import os
import pathlib
import shutil
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "deploy"))

from lab import cluster, interrupt, proxy  # noqa: E402
from lab.clients import Clients, Summary  # noqa: E402
from lab.observer import fit_replica  # noqa: E402
from lab.processes import start_time  # noqa: E402
from lab.sampler import Sampler  # noqa: E402
from lab.wait import until  # noqa: E402

INSIDE = "POINTSMAN_E2E_NAMESPACE"
given = argparse.Namespace(pointsman=ROOT / "build/release/pointsman", logs=None, network="127.0.40", shots=None)


class Scenario(unittest.TestCase):
    """One scenario on one cluster."""

    nodes = 3
    timing = cluster.FAST
    etcd_members = 1
    haproxy_way = proxy.PLAIN
    with_master_socket = False  # whether the agent is told of it
    etcd_options = ()
    etcd_password = None
    agent_user = "root"

    def setUp(self):
        if os.geteuid() != 0:
            self.skipTest("needs root: PostgreSQL runs as the user postgres")
        prefix = "pointsman-e2e."
        cluster.sweep(cluster.state_parent(), prefix)
        folder = cluster.state_parent() / f"{prefix}{os.getpid()}.{start_time(os.getpid())}"
        self.lab = cluster.Lab.create(folder, given.network, given.pointsman, self.timing,
                                      etcd_members=self.etcd_members)
        self.lab.agent_user = self.agent_user
        self.addCleanup(self.lab.destroy)
        self.addCleanup(self.keep_logs)
        self.lab.proxy.way = self.haproxy_way
        self.lab.master_socket = self.lab.proxy.master_socket if self.with_master_socket else None
        begun = time.monotonic()
        self.lab.start(self.nodes, self.etcd_options, self.etcd_password)
        self.figure(f"cluster of {self.nodes}: up in {time.monotonic() - begun:.1f} s")

    def figure(self, text):
        """A line of the report: printed, and kept beside the logs."""
        print(f"figure: {text}", flush=True)
        if given.logs:
            with open(given.logs / "figures.txt", "a", encoding="utf-8") as file:
                file.write(text + "\n")

    def keep_logs(self):
        if given.logs:
            for pattern in ("*.log", "*.jsonl", "*.cfg", "*.yml"):
                for file in self.lab.folder.glob(pattern):
                    shutil.copy(file, given.logs)

    def sample(self, **options):
        sampler = Sampler(self.lab, **options)
        self.addCleanup(sampler.stop)
        return sampler

    def clients(self, **options):
        load = Clients(self.lab, **options)
        self.addCleanup(load.kill)
        return load

    # What the clients saw

    def seen(self, load, kind, what, since=0.0):
        """The summary of one kind of attempts, reported with its first errors."""
        summary = Summary(load.records(since), kind)
        self.figure(f"{what}: {summary.count} connections, {len(summary.refused)} refused, {len(summary.cut)} cut, "
                    f"longest {summary.longest:.2f} s")
        for error in summary.errors():
            self.figure(f"  {error}")
        return summary

    def assert_untouched(self, summary):
        self.assertGreater(summary.count, 0)
        self.assertEqual([], summary.errors())

    def assert_never_wrong(self, sampler, socket_goes=False):
        last = sampler.stop()
        wrong = [line for line in sampler.violations()
                 if not (socket_goes and line["violation"].startswith("HAProxy's socket"))]
        self.figure(f"slots sampled {last['samples']} times, longest gap {1000 * last['longest_gap']:.0f} ms, "
                    f"{len(wrong)} violations")
        self.assertEqual([], wrong[:3])

    def served_after_yes(self, node, load, since):
        """Seconds from the node's first /replica 200 to the end of the first read that it served."""
        observer = fit_replica(node)
        self.addCleanup(observer.stop)
        fit = until(lambda: observer.first(bool), 60, f"{node.name} answers /replica with 200", every=0.02)
        served = load.wait_served("read", node, since, 30)
        observer.stop()
        return served - fit

    # What the agent did

    def log(self, file=None):
        return pathlib.Path(file or self.lab.agent_log).read_text(errors="replace")

    def commands(self, log=None):
        """The commands that the agent has sent to HAProxy, from its log."""
        return [line for line in self.log(log).splitlines() if 'command="' in line]


def enter_namespace():
    """Runs this program anew in a network namespace of its own, where it may change routes and rules as it likes."""
    if not os.environ.get(INSIDE) and os.geteuid() == 0:
        os.execvpe("unshare", ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-B",
                               *sys.argv], {**os.environ, INSIDE: "1"})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pointsman", type=lambda path: pathlib.Path(path).resolve(), default=given.pointsman)
    parser.add_argument("--logs", type=pathlib.Path)
    parser.add_argument("--network", default=given.network, help="the first three numbers of a free loopback network")
    parser.add_argument("--shots", type=lambda path: pathlib.Path(path).resolve(), help="where screenshots are kept")
    options, rest = parser.parse_known_args()
    vars(given).update(vars(options))
    if given.logs:
        shutil.rmtree(given.logs, ignore_errors=True)
        given.logs.mkdir(parents=True)
    interrupt.install()
    unittest.main(module="__main__", argv=[sys.argv[0], *rest], verbosity=2)
