"""What can happen to Patroni's REST API, as the agent sees it: hung, slow, garbage, endless, lying, wrong TLS (R2, R3).

In a network namespace of its own, where nftables leads the probes of the agent, and nobody else's, to REST APIs of our
own (fake_rest.py): PostgreSQL and Patroni of the member go on as ever.
"""

import signal
import subprocess
import time

import fake_rest
import scenario
from faults import AGENT, Faults
from lab import clients, haproxy
from lab.observer import running_primary
from lab.wait import until

HUNG_FOR = 6.0  # seconds
GRACE = 30.0  # seconds that an unknown answer leaves the leader in
OUT_WITHIN = 3.0  # seconds: a probe's interval and timeout, and the rest
BACK_WITHIN = 5.0  # seconds: the interval, and the second yes in a row
UNREADABLE_AFTER = 13.0  # seconds since etcd was last read: from then on probes alone decide (R4)


class PatroniFaults(Faults):
    agent_user = AGENT

    def test_faults(self):
        clients.create_ledger(self.lab.leader())
        self.sampler = self.sample(period=0.02)
        self.addCleanup(self.clear_rules)
        self.addCleanup(self.to_etcd, signal.SIGCONT)
        self.port = 8000
        for fault in (self.leader_unknown, self.leader_unknown_for_long, self.replica_unknown, self.slow,
                      self.two_leaders, self.two_leaders_without_etcd, self.tls):
            begun = time.monotonic()
            with self.subTest(fault.__name__):
                try:
                    fault()
                finally:
                    self.clear_rules()
                    self.to_etcd(signal.SIGCONT)
                self.lab.wait_in_step(30)
            self.figure(f"{fault.__name__}: over after {time.monotonic() - begun:.0f} s")
        self.assert_never_wrong(self.sampler)

    def to_etcd(self, number):
        self.lab.processes.signal("etcd", number)

    def answer(self, answers):
        """Leads the agent's probes to REST APIs that answer like this, by node. Returns these."""
        rules, servers = [], []
        for node, how in answers.items():
            self.port += 1
            servers.append(fake_rest.Rest(f"{self.lab.network}.150", self.port, how))
            self.addCleanup(servers[-1].close)
            rules.append(f"meta skuid {AGENT} ip daddr {node.address} tcp dport 8008 "
                         f"dnat ip to {self.lab.network}.150:{self.port}")
        self.set_rules(redirect=rules)
        return servers

    def leader_and_replica(self):
        self.lab.wait_complete()
        leader = self.lab.wait_writable()
        return leader, self.other_than(leader)

    def slot(self, backend, node):
        return next(slot for slot in haproxy.slots(self.lab.socket)
                    if slot.backend == backend and slot.address == f"{node.address}:5432")

    def health_checked(self, backend, node):
        """Whether HAProxy's own check of the slot is enabled: bit 4 of srv_check_state."""
        name = self.slot(backend, node).name
        rows = haproxy.ask(self.lab.socket, f"show servers state {backend}").splitlines()[2:]
        return bool(next(int(row.split()[13]) for row in rows if row and row.split()[3] == name) & 4)

    # The faults

    def leader_unknown(self):
        """No answer of any kind is a no: the slot stays, and HAProxy's own check does not judge."""
        leader, _ = self.leader_and_replica()
        with self.load() as load:
            for how in (fake_rest.garbage, fake_rest.never_ends, fake_rest.endless_header, fake_rest.never_answers):
                begun = self.now()
                server, = self.answer({leader: how})
                self.wait_log(f"member {leader.name}: /master unknown", 5, begun)
                until(lambda: not self.health_checked("primary", leader), 3, "HAProxy's own check is suspended")
                time.sleep(HUNG_FOR)
                self.assertGreater(server.asked, 3)
                self.assert_slots_stayed(begun)
                self.assert_nobody_noticed(load, f"leader: {how.__name__}", begun)
                mended = self.now()
                self.clear_rules()
                self.wait_log(f"member {leader.name}: /master yes", 5, mended)
                until(lambda: self.health_checked("primary", leader), 3, "HAProxy's own check is resumed")

    def leader_unknown_for_long(self):
        """When the time of grace is over, new connections wait and kept sessions go on, until it answers."""
        leader, _ = self.leader_and_replica()
        with self.load() as load:
            begun = self.now()
            self.answer({leader: fake_rest.never_answers})
            out = self.sampler.wait_out("primary", leader, begun.time, GRACE + 6)
            self.figure(f"leader unknown: slot drained after {out - begun.time:.1f} s")
            self.assertGreater(out - begun.time, GRACE - 1)
            self.assertEqual("drain", self.slot("primary", leader).state)
            time.sleep(2)
            mended = time.monotonic()
            self.clear_rules()
            ready = self.sampler.wait_ready("primary", leader, mended, BACK_WITHIN)
            self.figure(f"leader answers: slot ready after {ready - mended:.2f} s")
            load.wait_served("write", leader, mended, 20)
        self.assert_nobody_noticed(load, "leader unknown for long", begun)

    def replica_unknown(self):
        """It stands back for the one that answers; nobody's session is cut."""
        leader, replica = self.leader_and_replica()
        with self.load() as load:
            for how in (fake_rest.garbage, fake_rest.never_ends, fake_rest.never_answers):
                begun = self.now()
                self.answer({replica: how})
                out = self.sampler.wait_out("replicas", replica, begun.time, OUT_WITHIN)
                time.sleep(2)
                mended = time.monotonic()
                self.clear_rules()
                ready = self.sampler.wait_ready("replicas", replica, mended, BACK_WITHIN)
                self.figure(f"replica: {how.__name__}: out after {out - begun.time:.2f} s, back {ready - mended:.2f} s "
                            "after it answers")
                others = [line for line in self.sampler.lines() if line.get("t", 0) >= begun.time
                          and line.get("address") != f"{replica.address}:5432"]
                self.assertEqual([], others)
                self.assert_nobody_noticed(load, f"replica: {how.__name__}", begun)

    def slow(self):
        """An answer within the timeout is an answer."""
        leader, replica = self.leader_and_replica()
        with self.load() as load:
            begun = self.now()
            self.answer({node: fake_rest.slowly(node.address) for node in (leader, replica)})
            time.sleep(8)
            unknown = [line for line in self.log(begun).splitlines() if " unknown: " in line]
            self.figure(f"slow: {len(unknown)} probes too late")
            self.assert_slots_stayed(begun)
            self.assert_nobody_noticed(load, "slow", begun)

    def two_leaders(self):
        """Two nodes say /master 200: the leader key decides."""
        leader, liar = self.leader_and_replica()
        with self.load() as load:
            begun = self.now()
            self.answer({liar: fake_rest.claims_to_lead})
            self.wait_log(f"member {liar.name}: /master yes", 5, begun)
            time.sleep(HUNG_FOR)
            primary = [line for line in self.sampler.lines() if line.get("t", 0) >= begun.time
                       and line.get("backend") == "primary"]
            self.assertEqual([], primary)
        self.assert_nobody_noticed(load, "two leaders", begun)

    def two_leaders_without_etcd(self):
        """The same with etcd away: the one that is there stays, also while it does not answer."""
        self.configure_failsafe()
        leader, liar = self.leader_and_replica()
        with self.load() as load:
            begun = self.now()
            timeline = self.timeline(leader)
            self.to_etcd(signal.SIGSTOP)
            time.sleep(UNREADABLE_AFTER + 1)
            self.answer({liar: fake_rest.claims_to_lead})
            self.wait_log(f"member {liar.name}: /master yes", 5, begun)
            time.sleep(HUNG_FOR)
            self.answer({liar: fake_rest.claims_to_lead, leader: fake_rest.never_answers})
            time.sleep(HUNG_FOR)
            # etcd comes back with the leader key expired: who does not answer then is drained (R3), which is not at issue.
            answers = self.now()
            self.clear_rules()
            self.wait_log(f"member {leader.name}: /master yes", 10, answers)
            self.to_etcd(signal.SIGCONT)
            self.wait_log("etcd answers again", 20, answers)
            primary = [line for line in self.sampler.lines() if line.get("t", 0) >= begun.time
                       and line.get("backend") == "primary"]
            self.assertEqual([], primary)
            self.assertEqual(timeline, self.timeline(leader), "Patroni has not demoted its leader")
        self.assert_nobody_noticed(load, "two leaders without etcd", begun)

    def configure_failsafe(self):
        status, body = self.lab.wait_writable().patch("/config", {"failsafe_mode": True})
        self.assertEqual(200, status, body)
        until(lambda: self.lab.etcd.get(self.lab.key("failsafe")), 20, "Patroni has written its failsafe key")

    def tls(self):
        """A replica whose API turns to TLS with a certificate that nobody knows, and then speaks HTTP all the same."""
        leader, replica = self.leader_and_replica()
        key, certificate = replica.folder / "rest.key", replica.folder / "rest.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                        "-nodes", "-keyout", key, "-out", certificate, "-subj", "/CN=nobody", "-days", "2"],
                       check=True, capture_output=True)
        key.chmod(0o644)
        with self.load() as load:
            begun = self.now()
            self.serve_tls(replica, {"certfile": str(certificate), "keyfile": str(key)})
            out = self.sampler.wait_out("replicas", replica, begun.time, 20)
            why = until(lambda: next((row["why"] for row in self.lab.slots() if row["member"] == replica.name
                                      and "certificate" in row.get("why", "")), None), 10, "`slots` tells of TLS")
            self.figure(f"tls: {why[:200]}")
            plain = self.now()
            self.answer({replica: fake_rest.fit_replica})
            time.sleep(4)
            self.assertNotIn(f"member {replica.name}: /replica yes", self.log(plain))
            self.assertNotEqual("ready", self.slot("replicas", replica).state)
            self.clear_rules()
            back = time.monotonic()
            self.serve_tls(replica, {})
            self.sampler.wait_ready("replicas", replica, back, 30)
            others = [line for line in self.sampler.lines() if line.get("t", 0) >= out
                      and line.get("address") != f"{replica.address}:5432"]
            self.assertEqual([], others)
        self.assert_nobody_noticed(load, "tls", begun)

    def serve_tls(self, node, files):
        """`systemctl reload patroni` with other files for its REST API."""
        node.rest_tls = files
        self.lab.reload_node(node)


if __name__ == "__main__":
    scenario.enter_namespace()
    scenario.main()
