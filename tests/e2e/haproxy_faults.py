"""HAProxy's stats socket that is full, gone, cuts its answers or hangs, and an operator who changes the slots by hand (R7)."""

import contextlib
import random
import signal
import socket
import time

import scenario
from idle import cpu
from lab import clients, haproxy
from lab.observer import leader_key
from lab.wait import Late, until
from relay import Relay, hung, whole
from routing import Leaders

CONNECTIONS = 10  # `stats maxconn`, where nobody set it
REPAIRED_WITHIN = 1.5  # seconds: the resync interval, and the time to look
DEADLINE = 2.0  # seconds that the agent waits for an answer
NOTICED_WITHIN = 2 * DEADLINE + 1.5  # it asks twice
MOST_CPU = 0.1  # of a core, while HAProxy does not answer
LOST = "no slot can be changed until it answers"


def rows(path):
    """All of a slot that a command could change."""
    found = {}
    for row in map(str.split, haproxy.ask(path, "show servers state").splitlines()[2:]):
        if row and row[3] not in ("hold", "self"):
            slot = haproxy.parse_row(row)
            found[f"{slot.backend}/{slot.name}"] = {"address": slot.address, "state": slot.state, "weight": slot.weight,
                                                    "up": int(row[5]) > 0, "checked": bool(int(row[13]) & 4)}
    return found


class ByHand(scenario.Scenario):
    nodes = 2

    def test_changes_by_hand(self):
        self.lab.settings.write_text(self.lab.settings.read_text().replace("fallback: primary",
                                                                           "fallback: primary, weight: {base: 100}"))
        self.lab.processes.signal("pointsman", signal.SIGHUP)
        until(lambda: 100 in [row["weight"] for row in rows(self.lab.socket).values()], 10, "the replica has its weight")
        self.lab.wait_settled()
        leader = self.lab.leader()
        wanted = rows(self.lab.socket)
        mine = self.slot(wanted, "primary", leader.address)
        other = self.slot(wanted, "primary", next(node.address for node in self.lab.nodes() if node.name != leader.name))
        replica = next(name for name, row in wanted.items() if name.startswith("replicas/") and row["state"] == "ready")
        free = next(name for name, row in wanted.items() if row["address"] == "127.0.0.1:1" and name.startswith("primary/"))
        nobody = f"{scenario.given.network}.99"
        changes = {
            "maint": (mine, f"set server {mine} state maint"),
            "drain": (mine, f"set server {mine} state drain"),
            "ready of a node that does not lead": (other, f"set server {other} state ready"),
            "ready of a free slot": (free, f"set server {free} state ready"),
            "another address": (mine, f"set server {mine} addr {nobody} port 5432"),
            "the leader's address in a second slot": (other, f"set server {other} addr {leader.address} port 5432;"
                                                             f"set server {other} state ready"),
            "weight": (replica, f"set server {replica} weight 7"),
            "weight 0": (mine, f"set server {mine} weight 0"),
            # Not `health down`, which HAProxy's own check undoes.
            "health checks off": (mine, f"disable health {mine}"),
        }
        problems = []
        for what, (slot, command) in changes.items():
            problems += self.repaired(what, slot, command, wanted)
        self.assertEqual([], problems)

    def slot(self, wanted, backend, address):
        return next(name for name, row in wanted.items()
                    if name.startswith(backend) and row["address"].partition(":")[0] == address)

    def repaired(self, what, slot, command, wanted):
        """What is wrong with the agent's answer to one change."""
        time.sleep(0.2)  # the pass that repaired the last one is over
        drifted = f"slot {slot} drifted"
        said = self.log().count(drifted)
        begun = time.monotonic()
        haproxy.ask(self.lab.socket, command)
        try:
            until(lambda: rows(self.lab.socket) == wanted and self.log().count(drifted) > said, REPAIRED_WITHIN,
                  "repaired and said so", every=0.005)
        except Late:
            later = self.repaired_late(wanted)
            text = (f"{what}: {'repaired after ' + later if later else 'not repaired within 10 s'}, "
                    f"{self.log().count(drifted) - said} lines in the log")
            self.figure(text)
            for name, row in wanted.items():  # what the agent leaves to us
                haproxy.ask(self.lab.socket, f"set server {name} weight {row['weight']}")
            until(lambda: rows(self.lab.socket) == wanted, 20, "the slots are as they were")
            return [text]
        self.figure(f"{what}: repaired and logged after {1000 * (time.monotonic() - begun):.0f} ms")
        return []

    def repaired_late(self, wanted):
        begun = time.monotonic()
        try:
            until(lambda: rows(self.lab.socket) == wanted, 10 - REPAIRED_WITHIN, "repaired", every=0.02)
        except Late:
            return None
        return f"{time.monotonic() - begun + REPAIRED_WITHIN:.1f} s"


class Socket(scenario.Scenario):
    nodes = 2

    def test_faults(self):
        clients.create_ledger(self.lab.leader())
        key = leader_key(self.lab)
        self.addCleanup(key.stop)
        sampler, load = self.sample(), self.clients()
        load.wait_served("write", self.lab.leader(), 0, 20)
        self.lab.wait_settled()

        self.gone()
        self.full(sampler, key, load)
        relay = Relay(self.lab.folder / "relay.sock", self.lab.socket)
        self.addCleanup(relay.close)
        self.lab.write_settings(socket=relay.path)
        self.lab.processes.signal("pointsman", signal.SIGHUP)
        until(lambda: relay.lines, 10, "the agent asks through the relay")
        self.lab.wait_settled()
        self.cut_at_rest(relay)
        self.hang(relay)
        self.cut_in_a_switchover(relay, sampler, key, load)
        load.stop()
        self.seen(load, "write", "writers through all of it")
        self.seen(load, "read", "readers through all of it")
        self.assert_never_wrong(sampler, socket_goes=True)

    def gone(self):
        path, away = self.lab.socket, self.lab.folder / "away.sock"
        lost, wanted, slot = self.log().count(LOST), rows(path), self.slot_of(self.lab.leader())
        path.rename(away)
        haproxy.ask(away, f"set server {slot} state maint")
        until(lambda: self.log().count(LOST) > lost, DEADLINE, "the log says that HAProxy does not answer")
        self.assertIn("no such file", self.log())
        self.assert_idle(3)
        self.assertEqual(lost + 1, self.log().count(LOST), "said once")
        away.rename(path)
        back = time.monotonic()
        until(lambda: rows(path) == wanted, REPAIRED_WITHIN, "the slots are as they were", every=0.005)
        self.figure(f"socket gone and back: in step {1000 * (time.monotonic() - back):.0f} ms later")
        self.assertIn("answers again", self.log())

    def full(self, sampler, key, load):
        old, new = self.leader_and_other()
        lost = self.log().count(LOST)
        with self.all_connections():
            until(lambda: self.log().count(LOST) > lost, NOTICED_WITHIN, "the log says that HAProxy does not answer")
            self.assert_idle(5)
            begun = self.lab.switchover(new)
            until(lambda: key.first(lambda name: name == new.name, begun), 30, "the leader key names the other")
            until(new.writable, 30, f"{new.name} takes writes")
            time.sleep(DEADLINE)
            self.assertEqual(lost + 1, self.log().count(LOST), "said once")
        freed = time.monotonic()
        ready = sampler.wait_ready("primary", new, begun)
        self.figure(f"socket full, then free: the new leader's slot is ready {1000 * (ready - freed):.0f} ms later")
        self.assertLess(ready - freed, REPAIRED_WITHIN)
        load.wait_served("write", new, freed, 30)
        self.lab.wait_in_step(30)
        wrong = Leaders(key, self.lab.nodes()).wrong_writes(load.records(begun))
        self.figure(f"wrongly routed in a switchover with the socket full: {len(wrong)}")
        self.assertEqual([], [line for line in wrong if line["start"] > ready], "none once the slot is ready")

    def cut_at_rest(self, relay):
        sent, asked = len(self.commands()), len(relay.lines)
        relay.spoil = self.cut(always=True)
        time.sleep(3)
        relay.spoil = whole
        until(lambda: "answers again, after " in self.log().splitlines()[-1], DEADLINE, "the agent has an answer again")
        self.figure(f"every answer cut for 3 s: {len(relay.lines) - asked} asked, {len(self.commands()) - sent} commands")
        self.assertEqual(sent, len(self.commands()), "nothing is done upon a cut answer")

    def hang(self, relay):
        lost = self.log().count(LOST)
        slot = self.slot_of(self.lab.leader())
        relay.spoil = hung
        until(lambda: self.log().count(LOST) > lost, NOTICED_WITHIN, "the log says that HAProxy does not answer")
        haproxy.ask(self.lab.socket, f"set server {slot} state maint")
        self.assert_idle(3)
        self.assertEqual(lost + 1, self.log().count(LOST), "said once")
        relay.spoil = whole
        back = time.monotonic()
        until(lambda: rows(self.lab.socket)[slot]["state"] == "ready", DEADLINE + REPAIRED_WITHIN, "the slot is ready again",
              every=0.005)
        self.figure(f"socket hung, then not: in step {1000 * (time.monotonic() - back):.0f} ms later")

    def cut_in_a_switchover(self, relay, sampler, key, load):
        _, new = self.leader_and_other()
        self.lab.wait_complete()
        relay.spoil = self.cut(always=False)
        begun = self.lab.switchover(new)
        until(lambda: self.lab.leader() and self.lab.leader().name == new.name and new.writable(), 30,
              f"{new.name} takes writes", every=0.02)
        writable = time.monotonic()
        ready = sampler.wait_ready("primary", new, begun)
        self.figure(f"half of the answers cut: the new leader's slot is ready {1000 * (ready - writable):+.0f} ms from its yes")
        load.wait_served("write", new, ready, 30)
        relay.spoil = whole
        self.lab.wait_in_step(30)
        leaders = Leaders(key, self.lab.nodes())
        self.assertEqual([], leaders.wrong_writes(load.records(begun))[:3])
        self.assertEqual([], leaders.wrong_slots([line for line in sampler.lines() if line.get("t", 0) > begun])[:3])

    def cut(self, always):
        """Answers end anywhere, half of them where a line does."""
        chance = random.Random(3)

        def spoil(answer):
            if not always and chance.random() < 0.5 or not answer:
                return answer
            ends = [at for at in range(len(answer)) if answer[at:at + 1] == b"\n"]
            return answer[:chance.choice([chance.choice(ends), chance.randrange(len(answer))])]
        return spoil

    def leader_and_other(self):
        leader = self.lab.wait_writable()
        return leader, next(node for node in self.lab.nodes() if node.name != leader.name)

    def slot_of(self, node):
        return next(f"primary/{slot.name}" for slot in haproxy.slots(self.lab.socket)
                    if slot.backend == "primary" and slot.address == f"{node.address}:5432")

    def assert_idle(self, seconds):
        pid = [self.lab.processes.pid("pointsman")]
        before = cpu(pid)
        time.sleep(seconds)
        used = (cpu(pid) - before) / seconds
        self.figure(f"the agent's processor time while HAProxy does not answer: {100 * used:.1f} %")
        self.assertLess(used, MOST_CPU)

    @contextlib.contextmanager
    def all_connections(self):
        """Holds all that HAProxy's socket allows."""
        with contextlib.ExitStack() as held:
            for _ in range(CONNECTIONS):
                connection = held.enter_context(socket.socket(socket.AF_UNIX))
                connection.settimeout(20)
                connection.connect(str(self.lab.socket))
                for line in (b"prompt\n", b"set timeout cli 1h\n"):
                    connection.sendall(line)
                    answer = b""
                    while not answer.endswith(b"> "):
                        answer += connection.recv(4096)
            yield


if __name__ == "__main__":
    scenario.main()
