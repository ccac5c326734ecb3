"""A real Prometheus scrapes the daemon with deploy/'s rules: nothing fires while all is well, what should does otherwise,
and each query of the dashboard has an answer."""

import json
import sys
import urllib.parse
import urllib.request

import scenario
from lab import haproxy
from lab.wait import until

sys.path.insert(0, str(scenario.ROOT / "tests/deploy"))
import monitoring  # noqa: E402

CONFIGURATION = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - {{job_name: pointsman, static_configs: [{{targets: ["{target}"]}}]}}
"""
# What Grafana puts in place of its variables.
VARIABLES = {"$__rate_interval": "10s", "$instance": ".*", "$cluster": ".*", "$pool": ".*"}


class Prometheus(scenario.Scenario):
    def test_alerts_and_dashboard(self):
        self.start_prometheus()
        self.all_is_well()
        self.dashboard()
        self.two_writers()
        self.haproxy_is_gone()

    def start_prometheus(self):
        self.address = f"{self.lab.network}.210:9090"
        file = self.lab.folder / "prometheus.yml"
        file.write_text(CONFIGURATION.format(rules=monitoring.RULES, target=f"{self.lab.proxy_address}:9127"))
        self.lab.processes.start("prometheus", [
            "/usr/bin/prometheus", f"--config.file={file}", f"--storage.tsdb.path={self.lab.folder / 'prometheus'}",
            f"--web.listen-address={self.address}", "--log.level=warn"], self.lab.folder / "prometheus.log")
        until(lambda: self.values('up{job="pointsman"}') == [1], 30, "Prometheus scrapes the daemon")

    def ask(self, path, **parameters):
        try:
            with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}",
                                        timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError as error:
            return {"result": [], "error": str(error)}

    def values(self, query):
        return [float(sample["value"][1]) for sample in self.ask("query", query=query)["result"]]

    def firing(self, query='ALERTS{alertstate="firing"}'):
        return {sample["metric"]["alertname"] for sample in self.ask("query", query=query)["result"]}

    def all_is_well(self):
        """Through a switchover too."""
        def rules():
            return [rule for group in self.ask("rules").get("groups", []) for rule in group["rules"]]
        until(lambda: rules() and all(rule["health"] == "ok" for rule in rules()), 20, "each rule has been evaluated")
        self.assertEqual([rule["alert"] for rule in monitoring.alerts()], [rule["name"] for rule in rules()])

        leader = self.lab.leader()
        self.lab.switchover(next(node for node in self.lab.nodes() if node.name != leader.name))
        until(lambda: self.values("pointsman_failover_own_seconds_count") == [1], 30, "the failover is counted")
        self.lab.wait_complete()
        self.lab.wait_in_step(30)
        until(lambda: self.values("min(pointsman_pool_in_step)") == [1], 10, "in step")
        for query, expected in (("pointsman_cluster_etcd_watch_connected", [1]),
                                ('pointsman_pool_members{pool="primary",answer="yes"}', [1]),
                                ('pointsman_pool_members{pool="replicas",answer="yes"}', [2]),
                                ('pointsman_pool_slots_usable{pool="primary"}', [1]),
                                ('pointsman_pool_slots_usable{pool="replicas"}', [2])):
            until(lambda asked=query, value=expected: self.values(asked) == value, 10, f"{query} is {expected}")
        self.assertEqual(set(), self.firing('last_over_time(ALERTS{alertstate="firing"}[10m])'))

    def dashboard(self):
        """Each query is taken and has an answer; and all that rules and dashboard name, the daemon exports."""
        until(lambda: self.values("time() - process_start_time_seconds > 20"), 30, "enough for rates")
        for title, expression in monitoring.dashboard_queries():
            query = expression
            if expression.startswith("label_values("):
                query = expression.removeprefix("label_values(").rpartition(",")[0]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            with self.subTest(title, query=query):
                answer = self.ask("query", query=query)
                self.assertNotIn("error", answer)
                if "ALERTS" not in query:
                    self.assertTrue(answer["result"])
        with urllib.request.urlopen(f"http://{self.lab.proxy_address}:9127/metrics", timeout=5) as answer:
            text = answer.read().decode()
        metrics = monitoring.exported(text)
        for expression in [rule["expr"] for rule in monitoring.alerts()]:
            self.assertEqual([], monitoring.unknown(expression, metrics))
        self.figure(f"{len(monitoring.dashboard_queries())} queries of the dashboard have an answer; a scrape is {len(text)} bytes, "
                    f"{self.values('scrape_samples_scraped')[0]:.0f} series, "
                    f"{1000 * self.values('scrape_duration_seconds')[0]:.1f} ms")

    def two_writers(self):
        self.lab.ask_pointsman("pause", "--for", "1h")
        spare = next(slot for slot in haproxy.slots(self.lab.socket)
                     if slot.backend == "primary" and not slot.ready and slot.address in
                     [f"{node.address}:5432" for node in self.lab.nodes()])
        haproxy.ask(self.lab.socket, f"disable health primary/{spare.name}")
        haproxy.ask(self.lab.socket, f"set server primary/{spare.name} state ready")
        until(lambda: self.firing() == {"PointsmanTwoWriters"}, 10, "two writers are told")
        self.lab.ask_pointsman("resume")
        until(lambda: not self.firing(), 10, "the agent has undone it")

    def haproxy_is_gone(self):
        self.lab.processes.kill("haproxy")
        self.lab.socket.unlink()
        until(self.firing, 90, "an alert", every=0.5)
        self.figure(f"HAProxy is gone: {', '.join(sorted(self.firing()))}")
        self.assertEqual({"PointsmanHAProxySocketSilent"}, self.firing())
        self.lab.proxy.start()
        until(lambda: not self.firing(), 20, "all is well again")


if __name__ == "__main__":
    scenario.main()
