"""What somebody on call asks of the daemon, and what it answers on a real cluster."""

import json
import subprocess
import urllib.error
import urllib.request

import scenario
from lab import haproxy
from lab.wait import until


class OnCall(scenario.Scenario):
    def test_questions(self):
        self.leader_and_replica()
        self.plan_of_what_is_refused()
        self.health_and_readiness()
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
