"""What the scenarios of faults share: instants, clients with kept sessions, and rules of a network namespace's own."""

import contextlib
import subprocess
import time
from dataclasses import dataclass

import scenario
from lab import clients
from lab.wait import until

AGENT = "haproxy"  # the agent's user, in HAProxy's group as its socket asks


@dataclass(frozen=True)
class Mark:
    """An instant: its time, and how many characters the agent had logged."""

    time: float
    log: int


class Faults(scenario.Scenario):
    def now(self):
        return Mark(time.monotonic(), len(self.log()))

    def log(self, since=None):
        return self.lab.agent_log.read_text(errors="replace")[since.log if since else 0:]

    def wait_log(self, text, seconds, since):
        """Returns when the log has had the text since then."""
        until(lambda: text in self.log(since), seconds, f"the log says {text!r}")
        return time.monotonic()

    @contextlib.contextmanager
    def load(self):
        """Clients whose kept sessions are all there before the fault, and that are ended after it."""
        load = self.clients(writers=2, readers=2, kept=2, kept_readers=4)
        for kind, count in (("kept write", 2), ("kept read", 4)):
            until(lambda: len({line["by"] for line in load.records() if line["kind"] == kind and line["ok"]}) == count, 30,
                  f"sessions: {kind}")
        yield load
        load.stop()

    def cut(self, load, kind, since):
        return [line for line in load.records(since.time) if line["kind"] == kind and not line["ok"]]

    def assert_nobody_noticed(self, load, what, since):
        for kind in ("write", "read"):
            self.assert_untouched(self.seen(load, kind, f"{what}: {kind}s", since.time))
        for kind in ("kept", "kept reader"):
            self.assertEqual([], self.cut(load, kind, since))

    def assert_slots_stayed(self, since):
        """In service or out of it. But for a replica whose REST API was too slow for its probe, as on a machine that is
        overloaded: it may be drained, and its sessions last."""
        slow = {node.address + ":5432" for node in self.lab.nodes()
                if f"member {node.name}: /replica unknown" in self.log(since)}
        ready, changes = set(), []
        for line in self.sampler.lines():
            slot = (line.get("backend"), line.get("slot"))
            before = slot in ready
            (ready.add if line.get("state") == "ready" else ready.discard)(slot)
            # A drain of before may end now.
            ends = not before and line.get("state") in ("drain", "maint")
            if line.get("t", 0) >= since.time and not ends:
                changes.append(line)
        self.assertEqual([], [line for line in changes
                              if line.get("backend") != "replicas" or line["address"] not in slow])

    def timeline(self, node):
        """It grows with every promotion: two that are the same have none between them."""
        return clients.execute(node, "SELECT timeline_id FROM pg_control_checkpoint()")[0][0]

    # What stands between the agent and the rest, which has a user of its own for that

    def set_rules(self, drop=(), redirect=()):
        """nftables' rules for what leaves a process here; they replace those that were set before."""
        def chain(name, head, rules):
            lines = "\n".join([head, *rules])
            return f"chain {name} {{\n{lines}\n}}\n"
        self.clear_rules()
        table = (chain("dropped", "type filter hook output priority 0", drop)
                 + chain("redirected", "type nat hook output priority -100", redirect))
        subprocess.run(["nft", "-f", "-"], input=f"table inet faults {{\n{table}}}\n", text=True, check=True)

    def clear_rules(self):
        """Safe to repeat."""
        subprocess.run(["nft", "delete", "table", "inet", "faults"], check=False, capture_output=True)

    def agents_connections(self):
        """(its own port, the member's address) of each connection of the agent to etcd."""
        pid = self.lab.processes.pid("pointsman")
        rows = subprocess.run(["ss", "-tnpH", "state", "established", "dport", "=", ":2379"], capture_output=True,
                              text=True, check=True).stdout.splitlines()
        rows = [row.split() for row in rows if f"pid={pid}," in row]
        return [(row[2].rpartition(":")[2], row[3].rpartition(":")[0]) for row in rows]

    def black(self, *names):
        """From now on no packet of the agent reaches these members and none of theirs reaches it; nobody is told."""
        rules = []
        for name in names:
            address = self.lab.etcd_addresses[name]
            rules.append(f"ip daddr {address} tcp dport 2379 meta skuid {AGENT} drop")
            ports = [port for port, member in self.agents_connections() if member == address]
            if ports:
                rules.append(f"ip saddr {address} tcp sport 2379 tcp dport {{ {', '.join(ports)} }} drop")
        self.set_rules(drop=rules)

    def other_than(self, node):
        return next(other for other in self.lab.nodes() if other.name != node.name)
