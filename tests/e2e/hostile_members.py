"""Members whose names, URLs and REST APIs are made to inject commands, to mislead or to exhaust the agent (R13)."""

import json
import re
import time

import scenario
from fake_rest import Rest, claims_to_lead, endless_header, fit_replica, never_answers, never_ends, stopped
from lab import clients, cluster, haproxy
from lab.wait import until
from relay import Relay

INJECTED = "set server primary/pg1 state maint"
INJECTED_NAME = "show errors"  # a name with a slash is none
MEMORY_LIMIT = 96 << 20  # bytes of the agent's resident memory, whatever it is fed

# What may be sent to HAProxy, whole commands only.
SLOT = r"(primary|replicas)/pg[1-8]"
ALLOWED = re.compile(rf"show (info|version|servers state)( (json|typed))?|show stat (-1|primary|replicas) 4 -1"
                     rf"|set server {SLOT} addr 127\.0\.\d+\.\d+ port 5432"
                     rf"|set server {SLOT} state (ready|drain|maint)"
                     rf"|set (server {SLOT} weight|weight {SLOT}) \d+"
                     rf"|(enable|disable) health {SLOT}"
                     rf"|set server {SLOT} health up"
                     rf"|shutdown sessions server {SLOT}")


class HostileMembers(scenario.Scenario):
    timing = cluster.PRODUCTION  # with a shorter retry_timeout, 10 MB in etcd bring Patroni itself down
    etcd_options = ("--max-request-bytes", str(32 << 20))

    def setUp(self):
        super().setUp()
        network = scenario.given.network
        self.nowhere = f"{network}.151"  # nobody listens there
        rest_address = f"{network}.150"
        self.fit = self.rest(rest_address, 8001, fit_replica)
        self.unfit = self.rest(rest_address, 8002, stopped)
        self.liar = self.rest(rest_address, 8003, claims_to_lead)
        self.endless = self.rest(rest_address, 8004, never_ends)
        self.header = self.rest(rest_address, 8005, endless_header)
        self.hung = self.rest(rest_address, 8006, never_answers)
        self.recorder = Relay(self.lab.folder / "relay.sock", self.lab.socket)
        self.addCleanup(self.recorder.close)

    def rest(self, address, port, answer):
        server = Rest(address, port, answer)
        self.addCleanup(server.close)
        return server

    def refused(self):
        """Members that the agent cannot use: each must be named in the log."""
        host, good = self.nowhere, f"postgres://{self.nowhere}:5432/postgres"
        urls = {
            "h01-semicolon": f"postgres://{host}:5432;{INJECTED}/postgres",
            "h02-newline": f"postgres://{host}\n{INJECTED}\n:5432/postgres",
            "h03-space": f"postgres://{host} port 1:5432/postgres",
            "h04-port-0": f"postgres://{host}:0/postgres",
            "h05-port-70000": f"postgres://{host}:70000/postgres",
            "h06-port-5432x": f"postgres://{host}:5432x/postgres",
            "h07-port-minus": f"postgres://{host}:-1/postgres",
            "h08-unresolved": "postgres://nowhere.invalid:5432/postgres",
            "h09-name-injects": f"postgres://a;{INJECTED}:5432/postgres",
            "h10-bracket": f"postgres://[::1;{INJECTED}]:5432/postgres",
            "h11-not-a-url": INJECTED,
            "h12-number": 5432,
            "h13-list": [good],
            "h14-null-byte": f"postgres://{host}\0:5432/postgres",
            "h15-any-address": "postgres://0.0.0.0:5432/postgres",
            "h16-long": "postgres://" + "a" * 500_000 + ":5432/postgres",
        }
        members = {name: {"conn_url": url, "api_url": self.fit.url, "state": "running", "role": "replica"}
                   for name, url in urls.items()}
        members["h20-no-conn-url"] = {"api_url": self.fit.url}
        members["h22-rest-port"] = {"conn_url": good, "api_url": f"http://{host}:70000/patroni"}
        return members

    def tolerated(self):
        """Members that are odd, lie or hang: they need no word in the log, but must do no harm. With them there are
        more members than slots; those with an `a` come first where slots are given out."""
        def member(number, rest):
            return {"conn_url": f"postgres://{scenario.given.network}.{number}:5432/postgres", "api_url": rest.url}
        return {
            f"t01;{INJECTED_NAME}": member(161, self.unfit),
            f"t02\n{INJECTED_NAME}\n": member(162, self.unfit),
            "t03 with spaces": member(163, self.unfit),
            "t04-\x1b[31m-\u202e-é": member(164, self.unfit),
            "t05-" + "n" * 5000: member(165, self.unfit),
            "t06-rest-newline": {**member(170, self.unfit), "api_url": f"{self.unfit.url}\r\n{INJECTED}\r\n"},
            "a01-liar": member(166, self.liar),
            "a02-endless": member(167, self.endless),
            "a03-endless-header": member(168, self.header),
            "a04-hung": member(169, self.hung),
        }

    def test_members_made_to_inject_commands(self):
        clients.create_ledger(self.lab.leader())
        before = haproxy.identity(self.lab.socket)
        sampler = self.sample()
        self.lab.processes.stop("pointsman")
        self.lab.write_settings(socket=self.recorder.path)
        self.lab.start_agent()
        load = self.clients(kept=0)

        refused = self.refused()
        for name, value in {**refused, **self.tolerated()}.items():
            self.lab.etcd.put(self.lab.key(f"members/{name}"), json.dumps(value))
        # Not bytes that are no UTF-8: those bring Patroni 3.0.2 itself down ("Error communicating with DCS").
        for name, raw in {"g01-garbage": f"\0;{INJECTED}", "g02-empty": "", "g03-text": "[[[["}.items():
            self.lab.etcd.put(self.lab.key(f"members/{name}"), raw)
        for other in ("initialize;" + INJECTED, f"members/\n{INJECTED}/x"):
            self.lab.etcd.put(self.lab.key(other), INJECTED)
        until(lambda: self.endless.asked and self.hung.asked and self.liar.asked, 20, "hostile members are probed")
        time.sleep(5)  # some rounds of probes that all fail

        self.check_served(load)
        named = [name for name in refused if name != "h08-unresolved"] + ["nowhere.invalid"]
        self.check_log([*named, "g01-garbage", "g02-empty", "g03-text"])
        load.stop()
        self.assert_untouched(self.seen(load, "write", "writers beside hostile members"))
        self.assert_untouched(self.seen(load, "read", "readers beside hostile members"))
        self.assert_never_wrong(sampler)
        self.ten_megabytes()
        self.check_recorded()
        self.assertEqual(before, haproxy.identity(self.lab.socket))

    def ten_megabytes(self):
        """A value that etcd and Patroni themselves choke on: Patroni may demote its leader, but the agent lives, says what it
        refuses, and has the slots in step once the value is gone."""
        key = self.lab.key("members/h30-ten-megabytes")
        self.lab.etcd.put(key, json.dumps({"conn_url": "postgres://" + "b" * (10 << 20), "api_url": self.fit.url}))
        until(lambda: "member h30-ten-megabytes: refused" in self.lab.agent_log.read_text(errors="replace"), 60,
              "the log refuses ten megabytes")
        memory = self.resident()
        self.figure(f"the agent's resident memory with a value of 10 MB: {memory >> 20} MiB")
        self.assertLess(memory, MEMORY_LIMIT)
        self.lab.etcd.delete(key)
        self.lab.wait_writable(90)
        self.lab.wait_in_step(60)

    def check_served(self, load):
        """The others follow a change of the cluster, as ever."""
        self.assertTrue(self.lab.processes.pid("pointsman"), "the agent lives")
        memory = self.resident()
        self.figure(f"the agent's resident memory: {memory >> 20} MiB")
        self.assertLess(memory, MEMORY_LIMIT)
        leader = self.lab.wait_writable()
        replica = next(node for node in self.lab.nodes() if node.name != leader.name)
        for unfit in (True, False):
            begun = time.monotonic()
            self.lab.set_noloadbalance(replica, unfit)
            until(lambda: replica.fit_replica() != unfit, 40, f"the tag of {replica.name} is in force")
            self.lab.wait_in_step()
            self.figure(f"{replica.name} {'left' if unfit else 'came back'} within {time.monotonic() - begun:.1f} s")
        load.wait_served("write", leader, time.monotonic(), 20)

    def check_log(self, names):
        log = self.lab.agent_log.read_text(errors="replace")
        refusals = [line for line in log.splitlines() if "refused" in line or "not served" in line]
        lines = {name: [line for line in refusals if name in line] for name in names}
        self.assertEqual([], [name for name, found in lines.items() if not found], "not refused in the log")
        for found in lines.values():
            self.figure(f"log: {found[0][:200]}")
        self.assertNotIn("\x1b", log)
        forged = [line for line in log.splitlines() if line.startswith(INJECTED)]
        self.assertEqual([], forged)

    def check_recorded(self):
        for line in self.recorder.lines:
            for command in line.rstrip("\n").split(";"):
                self.assertIsNotNone(ALLOWED.fullmatch(command), f"HAProxy was sent {line!r}")
        self.figure(f"HAProxy was sent {len(self.recorder.lines)} lines, every one of the agent's own making")

    def resident(self):
        pid = self.lab.processes.pid("pointsman")
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


if __name__ == "__main__":
    scenario.main()
