"""What somebody on call asks of the daemon, and what it answers on a real cluster."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request

import scenario
from lab import clients, haproxy
from lab.wait import until


class OnCall(scenario.Scenario):
    def test_questions(self):
        clients.create_ledger(self.lab.leader())
        self.leader_and_replica()
        self.slots_watched()
        self.priorities()
        self.what_happened()
        self.pause()
        self.shadow()
        self.plan_of_what_is_refused()
        self.health_and_readiness()
        self.live()
        self.metrics()
        self.daemon_is_dead()

    def kill_haproxy(self):
        self.lab.processes.kill("haproxy")
        self.lab.socket.unlink()

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.lab.proxy_address}:9127{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def leader_and_replica(self):
        leader = self.lab.leader()
        replica = next(node for node in self.lab.nodes() if node.name != leader.name)
        slot = next(slot for slot in haproxy.slots(self.lab.socket) if slot.backend == "primary" and slot.ready)
        for words, parts in ((("why", leader.name), ["leader key   names " + leader.name, "200, state running, role master",
                                                     f"primary/{slot.name}: ready", "R2: leader, and its node says"]),
                             (("why", replica.name), ["because  not the leader", "R1: its node says yes", "lag          "]),
                             (("why", f"primary/{slot.name}"), [f"cluster demo: member {leader.name}"])):
            status, output, _ = self.lab.run_pointsman(*words)
            self.figure(f"pointsman {' '.join(words)}\n{output}")
            self.assertEqual(0, status)
            for part in parts:
                self.assertIn(part, output)
        status, output, _ = self.lab.run_pointsman("why", leader.name, "--json")
        self.assertEqual(leader.name, json.loads(output)[0]["leader"]["name"])
        status, output, errors = self.lab.run_pointsman("why", "nobody")
        self.assertEqual((1, ""), (status, output))
        self.assertIn("no member and no BACKEND/SLOT is called nobody", errors)

    def slots_watched(self):
        """Drawn anew while it runs; without a terminal one map follows the other."""
        with subprocess.Popen([self.lab.pointsman, "slots", "--watch", "--config", self.lab.settings],
                              stdout=subprocess.PIPE, text=True) as watching:
            self.addCleanup(watching.kill)
            heads = []
            while len(heads) < 2:
                line = watching.stdout.readline()
                self.assertTrue(line, "it goes on")
                heads += [line] if "SLOT  MEMBER" in line else []
            watching.terminate()

    def priorities(self):
        """Where standard error is journald's, each line has its priority."""
        reading, writing = os.pipe()
        pipe = os.fstat(writing)
        with subprocess.Popen([self.lab.pointsman, "run", "--shadow", "--config", self.lab.settings], stderr=writing,
                              env={"JOURNAL_STREAM": f"{pipe.st_dev}:{pipe.st_ino}"}) as second:
            os.close(writing)
            with os.fdopen(reading) as errors:
                lines = errors.read().splitlines()
            self.assertEqual(3, second.wait(10), "the port is the first one's")
        self.assertRegex(lines[0], "^<6>info: pointsman .*: 1 cluster")
        self.assertIn("<4>warning: SHADOW: HAProxy is observed, and nothing is sent to it", lines)

    def events(self, *words):
        status, output, _ = self.lab.run_pointsman("events", "--json", *words)
        self.assertEqual(0, status)
        return json.loads(output)

    def at_3_am(self, old):
        """The questions of docs/on-call.md, seconds after `old`, which is still frozen, has been deposed."""
        told = self.lab.run_pointsman("why", old.name)[1]
        line = next(line for line in told.splitlines() if "leader key" in line)
        self.figure(f"pointsman why {old.name} | grep 'leader key'\n{line}")
        self.assertIn(f"names {self.lab.leader().name} (term ", line)
        for words, part in ((("slots",), "primary\n"), (("events", "--last", "12"), "failover from="),
                            (("events", "--cut"), "3 sessions cut")):
            status, output, errors = self.lab.run_pointsman(*words)
            self.figure(f"pointsman {' '.join(words)}\n{output}")
            self.assertEqual((0, ""), (status, errors))
            self.assertIn(part, output)
        for path in ("/readyz", "/healthz"):
            status, text = self.get(path)
            self.figure(f"curl {path}: {status}: {text.strip()}")
            self.assertEqual(200, status)
        self.lab.processes.signal(old.name, signal.SIGCONT)
        told = until(lambda: "because" in (output := self.lab.run_pointsman("why", old.name)[1]) and output, 30,
                     "it comes back")
        self.figure(f"pointsman why {old.name}\n{told}")

    def what_happened(self):
        """A leader whose Patroni is frozen, with sessions: as `events` tells it with the daemon there, dead and new."""
        old = self.lab.leader()
        load = self.clients(writers=0, readers=0, kept=3)
        until(lambda: len({line["by"] for line in load.records() if line["ok"]}) == 3, 20, "kept sessions")
        self.lab.processes.signal(old.name, signal.SIGSTOP)
        until(lambda: (leader := self.lab.leader()) and leader.name != old.name, 60, "another leader")
        self.lab.wait_in_step(30)
        load.stop()
        cuts = until(lambda: self.events("--cut"), 5, "a cut")
        self.at_3_am(old)
        self.assertEqual([("slot", old.name, "primary", 3)],
                         [(e["kind"], e["member"], e["subject"].split("/")[0], e["sessions_cut"]) for e in cuts])
        self.assertEqual(["set server {subject} state maint", "shutdown sessions server {subject}"],
                         [c["command"].replace(cuts[0]["subject"], "{subject}") for c in cuts[0]["commands"]])
        kinds = {event["kind"] for event in self.events()}
        self.assertLessEqual({"agent", "haproxy", "etcd", "leader", "member", "slot", "failover"}, kinds)

        # Those of the last second may be lost with a daemon that is killed; the cut is older.
        journal = self.lab.state_file.with_name("events.json")
        until(lambda: any(event.get("sessions_cut") for event in json.loads(journal.read_text())), 5, "the journal has it")
        self.lab.processes.kill("pointsman")
        self.assertEqual(cuts, self.events("--cut"))
        self.lab.start_agent()
        self.lab.wait_in_step(30)
        self.lab.wait_complete()
        again = self.events("--last", "1000")
        self.assertEqual(cuts, [event for event in again if event.get("sessions_cut")])
        self.assertEqual(2, sum(event["text"].startswith("started") for event in again))
        self.lab.processes.stop("pointsman")
        self.assertEqual("stopped", self.events()[-1]["text"])
        self.lab.start_agent()
        self.lab.wait_in_step(30)

    def pause(self):
        """Nothing is sent while it lasts, through a restart of the daemon too, and everybody says so."""
        status, output, errors = self.lab.run_pointsman("pause", "--for", "1h")
        self.figure(f"pointsman pause --for 1h\n{output}")
        self.assertEqual((0, ""), (status, errors))
        slot = next(slot for slot in haproxy.slots(self.lab.socket) if slot.backend == "replicas" and slot.ready)
        self.lab.processes.stop("pointsman")
        self.lab.start_agent()
        haproxy.ask(self.lab.socket, f"set server replicas/{slot.name} state maint")
        told = "pool replicas: paused: "
        until(lambda: told in self.lab.agent_log.read_text(), 10, "the difference is told")
        self.assertEqual("maint", next(s for s in haproxy.slots(self.lab.socket)
                                       if (s.backend, s.name) == ("replicas", slot.name)).state)
        for words in (("why", f"replicas/{slot.name}"), ("plan",)):
            output = self.lab.run_pointsman(*words)[1]
            self.figure(f"pointsman {' '.join(words)}, paused\n{output}")
            self.assertIn("PAUSED until ", output)
        self.assertIn("PAUSED until ", self.lab.run_pointsman("slots")[2])
        self.assertIn("\npointsman_paused 1\n", self.get("/metrics")[1])
        status, text = self.get("/readyz")
        self.figure(f"/readyz, paused: {status}: {text.strip()}")
        self.assertEqual(503, status)
        self.assertIn("paused until ", text)

        self.assertEqual((0, "the agent acts\n", ""), self.lab.run_pointsman("resume"))
        self.lab.wait_in_step(10)
        self.assertEqual(0, self.lab.run_pointsman("pause", "--for", "2s")[0])
        until(lambda: self.get("/readyz")[0] == 200, 10, "the pause ends by itself")
        until(lambda: self.events()[-1]["text"] == "the pause is over", 5, "its end is told")
        for wrong in (("--for", "25h"), ("--for", "10"), ("--for", "0s")):
            self.assertEqual(2, self.lab.run_pointsman("pause", *wrong)[0], wrong)

    def shadow(self):
        """Beside whatever is there today: it says what it would do, and does nothing."""
        self.lab.processes.stop("pointsman")
        slot = next(slot for slot in haproxy.slots(self.lab.socket) if slot.backend == "replicas" and slot.ready)
        haproxy.ask(self.lab.socket, f"set server replicas/{slot.name} weight 0")
        haproxy.ask(self.lab.socket, f"disable health replicas/{slot.name}")
        before = haproxy.slots(self.lab.socket)
        kept = self.lab.state_file.stat().st_mtime_ns
        began = len(self.lab.agent_log.read_text())
        self.lab.start_agent(options=("--shadow",))
        told = f"shadow: 3 command(s) would be sent: `set server replicas/{slot.name} weight"
        until(lambda: told in self.lab.agent_log.read_text()[began:], 20, "the difference is told")
        self.figure("run --shadow\n" + "\n".join(line for line in self.lab.agent_log.read_text()[began:].splitlines()
                                                 if "shadow" in line.lower()))
        output = self.lab.run_pointsman("plan")[1]
        self.figure(f"pointsman plan, beside a shadow\n{output}")
        self.assertIn("a shadow: nothing is sent", output)
        self.assertIn("\npointsman_shadow 1\n", self.get("/metrics")[1])
        self.lab.processes.stop("pointsman")
        self.assertEqual(before, haproxy.slots(self.lab.socket))
        self.assertEqual(kept, self.lab.state_file.stat().st_mtime_ns)
        self.lab.start_agent()
        self.lab.wait_in_step(10)

    def plan_of_what_is_refused(self):
        """HAProxy's socket with the rights of a user answers and changes nothing: the plan says what it would be."""
        self.assertEqual((0, "nothing to do: every slot is as it should be\n"), self.lab.run_pointsman("plan")[:2])
        good = self.lab.proxy.file.read_text()
        self.lab.proxy.file.write_text(good.replace("level admin", "level user"))
        self.kill_haproxy()
        self.lab.state_file.unlink()
        self.lab.proxy.start()
        status, output, _ = until(lambda: (said := self.lab.run_pointsman("plan"))[0] == 1 and said, 10, "a plan")
        self.figure(f"pointsman plan\n{output}")
        leader = self.lab.leader()
        self.assertIn(f"addr {leader.address} port 5432   # demo, member {leader.name}: R6: its member's address", output)
        self.assertIn("# demo, pool primary: ", output)
        self.assertEqual(503, self.get("/readyz")[0])
        self.lab.proxy.file.write_text(good)
        self.kill_haproxy()
        self.lab.proxy.start()
        self.lab.wait_in_step(10)

    def health_and_readiness(self):
        until(lambda: self.get("/readyz") == (200, "every pool is in step\n"), 10, "ready")
        self.assertEqual(200, self.get("/healthz")[0])
        self.kill_haproxy()
        status, text = until(lambda: (answer := self.get("/readyz"))[0] == 503 and answer, 10, "not ready")
        self.figure(f"/readyz without HAProxy: {status}: {text.strip()}")
        self.assertIn("HAProxy is not running", text)
        self.assertEqual(200, self.get("/healthz")[0], "the loop goes on")
        self.lab.proxy.start()
        until(lambda: self.get("/readyz")[0] == 200, 10, "ready again")

    def live(self):
        """What the status page is fed with: the state, with every slot's sessions, and the last events."""
        load = self.clients(writers=0, readers=0, kept=2)
        until(lambda: len({line["by"] for line in load.records() if line["ok"]}) == 2, 20, "kept sessions")
        leader = self.lab.leader()
        with urllib.request.urlopen(f"http://{self.lab.proxy_address}:9127/api/v1/live", timeout=5) as stream:
            def shown():
                line = b"".join(iter(stream.readline, b"\n")).replace(b"data: ", b"")
                document = json.loads(line)
                pool = next(p for p in document["state"]["clusters"][0]["pools"] if p["backend"] == "primary")
                sessions = {slot["member"]: slot["sessions"] for slot in pool["slots"] if slot["member"]}
                expected = {node.name: 2 if node.name == leader.name else 0 for node in self.lab.nodes()}
                return document["events"] and sessions == expected
            until(shown, 5, "both sessions are on the page")
        load.stop()
        self.assertEqual(200, self.get("/")[0])

    def metrics(self):
        """What Prometheus' own linter says of them, and what they say of the cluster."""
        status, text = self.get("/metrics")
        self.assertEqual(200, status)
        lint = subprocess.run(["/usr/bin/promtool", "check", "metrics"], input=text, capture_output=True, text=True,
                              timeout=30, check=False)
        self.figure(f"/metrics: {len(text)} bytes, {sum(not line.startswith('#') for line in text.splitlines())} series")
        self.assertEqual((0, "", ""), (lint.returncode, lint.stdout, lint.stderr))
        for line in ("pointsman_haproxy_up 1", 'pointsman_cluster_members{cluster="demo"} 3',
                     'pointsman_pool_slots{cluster="demo",pool="primary",state="ready"} 1',
                     'pointsman_pool_in_step{cluster="demo",pool="replicas"} 1'):
            self.assertIn(f"\n{line}\n", text)

    def daemon_is_dead(self):
        self.lab.processes.kill("pointsman")
        for words in (("why", "node1"), ("plan",)):
            status, output, errors = self.lab.run_pointsman(*words)
            self.assertEqual((3, ""), (status, output))
            self.assertIn("the daemon does not answer", errors)
        self.assertEqual(0, self.lab.run_pointsman("slots")[0])


if __name__ == "__main__":
    scenario.main()
