"""What can happen to etcd, one fault after the other on one cluster with three members of etcd (R4, R5).

In a network namespace of its own, where nftables takes single members of etcd away from the agent: it alone runs as the
user haproxy. POINTSMAN_ETCD_AWAY=600 makes the longest absence one of ten minutes; POINTSMAN_FAULTS=killed,wiped picks
some of the faults.
"""

import base64
import json
import os
import shutil
import signal
import time

import scenario
from faults import AGENT, Faults
from lab import clients
from lab.observer import leader_key, running_primary
from lab.wait import until

AWAY = float(os.environ.get("POINTSMAN_ETCD_AWAY", 50))  # seconds

FOLLOWED_WITHIN = 9.0  # seconds: the interval of full reads (5 s), the deadline of one (3 s), and the rest
UNREADABLE_AFTER = 13.0  # seconds since the last full read: from then on probes alone decide (R4)
TRIAL = 30.0  # seconds that a store must be the only one to answer, before its word counts
CUT_WITHIN = 5.0  # seconds from the leader's `stopping`: PostgreSQL's own shutdown is in it
GARBAGE = 3000  # keys, 1 MB together: more keeps Patroni itself from reading etcd within this retry_timeout


class EtcdFaults(Faults):
    etcd_members = 3
    agent_user = AGENT

    def test_faults(self):
        clients.create_ledger(self.lab.leader())
        self.configure(failsafe_mode=True)
        self.sampler = self.sample(period=0.02)
        self.addCleanup(self.clear_rules)
        self.addCleanup(self.to_etcd, signal.SIGCONT)
        faults = [self.one_endpoint_black, self.one_member_behind, self.no_quorum, self.stopped, self.prefix_deleted,
                  self.garbage, self.killed, self.restored, self.wiped, self.killed_without_failsafe]
        wanted = os.environ.get("POINTSMAN_FAULTS")
        for fault in faults:
            if not wanted or fault.__name__ in wanted.split(","):
                with self.subTest(fault.__name__):
                    self.inflict(fault)
        self.assert_never_wrong(self.sampler)

    def inflict(self, fault):
        self.lab.wait_complete()  # also where the fault before this one has failed
        self.lab.wait_in_step(30)
        begun = time.monotonic()
        try:
            fault()
        finally:
            self.clear_rules()
            self.to_etcd(signal.SIGCONT)
            self.lab.start_etcd()
        self.lab.wait_complete()
        self.lab.wait_in_step(30)
        self.figure(f"{fault.__name__}: over after {time.monotonic() - begun:.0f} s")

    # What is done to etcd

    def configure(self, **dynamic):
        status, body = self.lab.wait_writable().patch("/config", dynamic)
        self.assertEqual(200, status, body)
        for node in self.lab.nodes():
            until(lambda: all(node.get("/config")[1].get(key) == value for key, value in dynamic.items()), 20,
                  f"{node.name} has {dynamic}")
        # Patroni asks for the key, which its leader writes a loop later.
        if dynamic.get("failsafe_mode"):
            until(lambda: len(json.loads(self.lab.etcd.get(self.lab.key("failsafe")) or "{}")) == self.nodes, 20,
                  "the failsafe key names every node")

    def to_etcd(self, number, *names):
        for name in names or self.lab.etcd_addresses:
            self.lab.processes.signal(name, number)

    def followed(self):
        """The member of etcd that the agent follows, or None while it is between two."""
        addresses = {address for _, address in self.agents_connections()}
        names = [name for name, address in self.lab.etcd_addresses.items() if address in addresses]
        return names[0] if len(names) == 1 else None

    def one_endpoint_black(self):
        """A half-open connection: the agent goes to another endpoint, and sees what happened meanwhile."""
        old, black = self.lab.wait_writable(), until(self.followed, 10, "the agent follows one member of etcd")
        new = self.other_than(old)
        with self.load() as load:
            key = leader_key(self.lab)
            self.addCleanup(key.stop)
            begun = time.monotonic()
            self.black(black)
            self.lab.switchover(new)
            moved = until(lambda: key.first(lambda name: name == new.name, begun), 20, "the new leader key")
            ready = self.sampler.wait_ready("primary", new, begun)
            out = self.sampler.wait_out("primary", old, begun)
            self.figure(f"{black} black: slot of the new leader ready {ready - moved:.2f} s after its key, "
                        f"{ready - begun:.1f} s after the last packet")
            self.assertLess(ready - moved, FOLLOWED_WITHIN)
            until(lambda: self.followed() not in (None, black), 5, "the agent follows another member")

            self.assert_waited(load, f"{black} black", out)

            again = self.lab.switchover(old)
            moved = until(lambda: key.first(lambda name: name == old.name, again), 20, "the old leader's key again")
            ready = self.sampler.wait_ready("primary", old, again)
            self.figure(f"{black} still black: slot ready {ready - moved:.2f} s after the key")
            self.assertLess(ready - moved, 1.5)
            key.stop()
            self.clear_rules()
        self.assert_untouched(self.seen(load, "write", f"{black} still black: writes", again))

    def assert_waited(self, load, what, out):
        """Unseen, a switchover that was asked for cannot be prepared for (R12): but whoever comes after the old slot is
        out waits."""
        seen = self.seen(load, "write", f"{what}: writes")
        self.assertEqual([], [line["error"] for line in seen.failures if line["start"] > out])

    def one_member_behind(self):
        """The only member that the agent reaches stands still through a switchover and a compaction: roles are followed
        by probes alone, and what that member missed is caught up with, not replayed."""
        behind = until(self.followed, 10, "the agent follows one member of etcd")
        old = self.lab.wait_writable()
        new = self.other_than(old)
        with self.load() as load:
            self.black(*(name for name in self.lab.etcd_addresses if name != behind))
            begun = self.now()
            self.to_etcd(signal.SIGSTOP, behind)
            switched = self.lab.switchover(new)
            answers = running_primary(new)
            self.addCleanup(answers.stop)
            promoted = until(lambda: answers.first(lambda answer: answer is True), 20, f"{new.name} takes writes")
            ready = self.sampler.wait_ready("primary", new, switched)
            out = self.sampler.wait_out("primary", old, switched)
            self.figure(f"{behind} stopped, others black: slot ready {ready - promoted:.1f} s after the node's yes, "
                        f"{ready - begun.time:.1f} s after etcd was last read")
            self.assertLess(ready - max(promoted, begun.time + UNREADABLE_AFTER), 2.0)
            answers.stop()
            self.compact()
            self.to_etcd(signal.SIGCONT, behind)
            continued = time.monotonic()
            self.wait_log("etcd answers again", 10, begun)
            self.clear_rules()
            self.lab.wait_in_step(10)
            self.figure(f"{behind} continued: etcd read again after {time.monotonic() - continued:.1f} s")
        self.assertEqual([], [line for line in self.sampler.lines() if line.get("t", 0) > continued
                              and line.get("backend") == "primary" and line.get("state") == "ready"])
        self.assert_waited(load, f"{behind} behind", out)

    def compact(self):
        """Nobody can be told any more what happened until now."""
        status = json.loads(self.lab.etcdctl("endpoint", "status", "--write-out=json", only=self.lab.etcd.url))
        self.lab.etcdctl("compaction", status[0]["Status"]["header"]["revision"])

    def no_quorum(self):
        """Two of three stand still: the third has no leader and its reads never end."""
        leader, mine = self.lab.wait_writable(), until(self.followed, 10, "the agent follows one member of etcd")
        with self.load() as load:
            timeline = self.timeline(leader)
            begun = self.now()
            self.to_etcd(signal.SIGSTOP, *(name for name in self.lab.etcd_addresses if name != mine))
            self.wait_log("members and slots stay as they are", 20, begun)
            time.sleep(UNREADABLE_AFTER)
            self.to_etcd(signal.SIGCONT)
            self.wait_log("etcd answers again", 20, begun)
            time.sleep(5)  # what etcd takes back, it takes back now
        self.assertEqual(timeline, self.timeline(leader), "Patroni has not demoted its leader")
        self.assert_slots_stayed(begun)
        self.assert_nobody_noticed(load, "no quorum", begun)

    def stopped(self):
        """Longer than the lease: when etcd goes on, every key of Patroni's vanishes and comes back."""
        leader = self.lab.wait_writable()
        with self.load() as load:
            timeline = self.timeline(leader)
            begun = self.now()
            self.to_etcd(signal.SIGSTOP)
            time.sleep(self.timing["ttl"] + 5)
            self.to_etcd(signal.SIGCONT)
            until(self.lab.leader, 30, "there is a leader key again")
            self.wait_log("etcd answers again", 20, begun)
            vanished = "leader key is gone" in self.log(begun)
            self.figure(f"stopped: the keys {'vanished and came back' if vanished else 'stayed'}")
            time.sleep(5)  # two loops of Patroni
        self.assertEqual(timeline, self.timeline(leader), "Patroni has not demoted its leader")
        self.assert_slots_stayed(begun)
        self.assert_nobody_noticed(load, "stopped", begun)

    def prefix_deleted(self):
        leader = self.lab.wait_writable()
        with self.load() as load:
            timeline = self.timeline(leader)
            begun = self.now()
            self.lab.etcdctl("del", "--prefix", self.lab.key(""))
            self.wait_log("leader key is gone", 5, begun)
            until(lambda: all(self.lab.etcd.get(self.lab.key(f"members/{node.name}")) for node in self.lab.nodes()), 30,
                  "Patroni has put its keys back")
            time.sleep(12)  # longer than a member that etcd has lost is held
        self.assertEqual(timeline, self.timeline(leader), "Patroni has not demoted its leader")
        self.assert_slots_stayed(begun)
        self.assert_nobody_noticed(load, "prefix deleted", begun)

    def garbage(self):
        """Thousands of keys that mean nothing: the slots stay, and a switchover is followed."""
        filler = "x" * ((1 << 20) // GARBAGE)
        values = [filler, '{"conn_url": ' + filler, json.dumps({"conn_url": 5432, "api_url": [filler]}),
                  json.dumps([filler]), base64.b64encode(filler.encode())]
        # Not members, which are hostile_members.py's: Patroni's failsafe mode asks those that have no REST API as well.
        places = ["garbage/{}", "members-{}", "leader/{}", "{}/members/node1", "history{}"]
        keys = [self.lab.key(places[n % len(places)].format(n)) for n in range(GARBAGE)]
        old = self.lab.wait_writable()
        new = self.other_than(old)
        with self.load() as load:
            timeline = self.timeline(old)
            begun = self.now()
            self.lab.etcd.put_many([(key, values[n // 5 % len(values)]) for n, key in enumerate(keys)])
            self.lab.etcd.put(self.lab.key("history"), "[[1, 2, ")
            time.sleep(12)  # two full reads
            for line in self.log(begun).splitlines():
                if "etcd" in line:
                    self.figure(f"garbage: {line[:150]}")
            if self.timeline(old) == timeline:
                self.assert_slots_stayed(begun)
                self.assert_nobody_noticed(load, "garbage", begun)
            else:
                self.figure("garbage: Patroni itself has demoted its leader")
            key = leader_key(self.lab)
            self.addCleanup(key.stop)
            switched = self.lab.switchover(new)
            ready = self.sampler.wait_ready("primary", new, switched)
            moved = key.first(lambda name: name == new.name, switched)
            self.figure(f"garbage: switchover, slot ready {ready - moved:.2f} s after the key")
            key.stop()
            for place in places:
                if not place.startswith("{"):
                    self.lab.etcdctl("del", "--prefix", self.lab.key(place.format("")))
            for key in keys[3::5]:
                self.lab.etcd.delete(key)
        self.assert_untouched(self.seen(load, "write", "garbage: writes"))

    def killed(self):
        """Failsafe mode: the leader goes on without etcd, until one of the others does not answer it any more."""
        old = self.lab.wait_writable()
        other = self.other_than(old)
        with self.load() as load:
            timeline = self.timeline(old)
            begun = self.now()
            for name in self.lab.etcd_addresses:
                self.lab.processes.kill(name)
            time.sleep(AWAY / 2)
            self.assertEqual(timeline, self.timeline(old), "failsafe mode keeps the leader")
            self.assert_slots_stayed(begun)
            self.assert_nobody_noticed(load, f"killed {AWAY / 2:.0f} s ago", begun)

            # A new configuration begins with what was known under the old one.
            told = self.now()
            self.lab.processes.signal("pointsman", signal.SIGHUP)
            self.wait_log("members and slots stay as they are", 20, told)
            answers = running_primary(old)
            self.addCleanup(answers.stop)
            frozen = self.now()
            self.lab.processes.signal(other.name, signal.SIGSTOP)
            try:
                demoted = until(lambda: answers.first(lambda answer: answer is not True, frozen.time), 30, "a demotion")
                until(lambda: len(self.cut(load, "kept", frozen)) >= 2, 10, "both sessions of the demoted node are cut")
            finally:
                self.lab.processes.signal(other.name, signal.SIGCONT)
            answers.stop()
            latest = max(line["end"] for line in self.cut(load, "kept", frozen))
            self.figure(f"killed: {old.name} demoted itself {demoted - frozen.time:.1f} s after {other.name} stood still, "
                        f"its sessions cut {1000 * (latest - demoted):+.0f} ms from that")
            self.assertLess(latest - demoted, CUT_WITHIN)
            time.sleep(max(0.0, begun.time + AWAY - time.monotonic()))
            self.assertEqual([], self.cut(load, "kept reader", begun), "readers of the replicas")
            self.back(load, "killed")
            self.assertEqual([], [line for line in load.records(frozen.time) if line["code"] == clients.READ_ONLY], "misrouted")
        self.figure(f"killed: etcd was away for {time.monotonic() - begun.time:.0f} s")

    def killed_without_failsafe(self):
        """The leader demotes itself, the replicas go on being read, and writes go on when etcd is back."""
        self.configure(failsafe_mode=False)
        old = self.lab.wait_writable()
        with self.load() as load:
            answers = running_primary(old)
            self.addCleanup(answers.stop)
            begun = self.now()
            for name in self.lab.etcd_addresses:
                self.lab.processes.kill(name)
            demoted = until(lambda: answers.first(lambda answer: answer is not True, begun.time), 30, "a demotion")
            until(lambda: len(self.cut(load, "kept", begun)) >= 2, 10, "both sessions of the demoted node are cut")
            answers.stop()
            latest = max(line["end"] for line in self.cut(load, "kept", begun))
            self.figure(f"without failsafe: {old.name} demoted itself after {demoted - begun.time:.1f} s, its sessions "
                        f"cut {1000 * (latest - demoted):+.0f} ms from that")
            self.assertLess(latest - demoted, CUT_WITHIN)
            time.sleep(15)  # writers wait
            self.assertEqual([], self.cut(load, "kept reader", begun), "readers of the replicas")
            self.back(load, "without failsafe")
        self.assert_untouched(self.seen(load, "read", "without failsafe: reads", begun.time))

    def back(self, load, what):
        """etcd is started again: writes go on."""
        begun = time.monotonic()
        self.lab.start_etcd()
        self.lab.wait_writable()
        wrote = until(lambda: next((line["end"] for line in load.records(begun) if line["kind"] == "write" and line["ok"]),
                                   None), 30, "a write")
        self.figure(f"{what}: first write {wrote - begun:.1f} s after the start of etcd")
        self.lab.wait_in_step(30)

    def restored(self):
        """An older snapshot, with the same members and token: the same cluster id, and revisions that go back."""
        snapshot = self.lab.folder / "etcd.snapshot"
        self.lab.etcdctl("snapshot", "save", snapshot, only=self.lab.etcd.url)
        leader = self.lab.wait_writable()
        for number in range(50):  # so that the revision certainly goes back
            self.lab.etcd.put("/after-the-snapshot", str(number))
        time.sleep(6)  # a full read
        peers = ",".join(f"{name}=http://{address}:2380" for name, address in self.lab.etcd_addresses.items())

        def restore():
            for name, address in self.lab.etcd_addresses.items():
                self.lab.etcdctl("snapshot", "restore", snapshot, "--name", name, "--initial-cluster", peers,
                                 "--initial-advertise-peer-urls", f"http://{address}:2380", "--data-dir",
                                 self.lab.folder / name)
            self.lab.start_etcd()

        self.another_store(leader, restore, "restored")

    def wiped(self):
        """A new cluster at the old addresses, empty until Patroni has filled it."""
        self.another_store(self.lab.wait_writable(),
                           lambda: self.lab.start_etcd("--initial-cluster-token", "another"), "wiped")

    def another_store(self, leader, start, what):
        with self.load() as load:
            timeline = self.timeline(leader)
            begun = self.now()
            for name in self.lab.etcd_addresses:
                self.lab.processes.kill(name)
                shutil.rmtree(self.lab.folder / name)
            up = self.now()
            start()
            followed = self.wait_log("etcd answers again", TRIAL + 20, up)
            self.figure(f"{what}: the new store is followed {followed - up.time:.0f} s after its start")
            self.assertGreater(followed - up.time, TRIAL)
            time.sleep(3)
            self.assertEqual(timeline, self.timeline(leader), "Patroni has not demoted its leader")
            self.assert_slots_stayed(begun)
            self.assert_nobody_noticed(load, what, begun)
            new = self.other_than(leader)
            switched = self.lab.switchover(new)
            load.wait_served("write", new, switched, 20)
        alerts = [line for line in self.log(begun).splitlines() if "after revision" in line]
        self.assertNotEqual([], alerts, "the log says what was found instead of the store that was followed")
        self.figure(f"{what}: {alerts[0][:300]}")


class EtcdAuthentication(Faults):
    """Tokens that live for as long as the time between two reads, and a role that is taken away for a while."""

    nodes = 2
    etcd_options = ("--auth-token", "simple", "--auth-token-ttl", "5")
    etcd_password = "of the lab"

    def test_tokens_and_roles(self):
        clients.create_ledger(self.lab.leader())
        self.sampler = self.sample(period=0.02)
        with self.load() as load:
            begun = self.now()
            time.sleep(22)  # four full reads, each with a token that has expired
            self.assertEqual([], [line for line in self.log(begun).splitlines() if "etcd" in line])
            self.lab.etcdctl("user", "revoke-role", "pointsman", "reader")
            self.wait_log("permission denied", 20, begun)
            time.sleep(UNREADABLE_AFTER)
            self.lab.etcdctl("user", "grant-role", "pointsman", "reader")
            granted = time.monotonic()
            self.wait_log("etcd answers again", 10, begun)
            self.figure(f"role given back: etcd read again after {time.monotonic() - granted:.1f} s")
            self.assert_slots_stayed(begun)
            self.assert_nobody_noticed(load, "tokens and roles", begun)
            new = next(node for node in self.lab.nodes() if node.name != self.lab.wait_writable().name)
            switched = self.lab.switchover(new)
            load.wait_served("write", new, switched, 20)
        self.assert_never_wrong(self.sampler)


if __name__ == "__main__":
    scenario.enter_namespace()
    scenario.main()
