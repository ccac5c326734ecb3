"""The alert rules by promtool, and that rules, dashboard and pages name what there is.

  monitoring_test.py --metrics AGENT_DAEMON_TEST    which prints a /metrics text with every family
"""

import argparse
import importlib.util
import pathlib
import shutil
import subprocess
import sys
import unittest

PROMTOOL = shutil.which("promtool")
if not PROMTOOL or not importlib.util.find_spec("yaml"):
    print("skipped: no promtool, or no python3-yaml (deploy/install-packages cluster)")
    sys.exit(77)

import monitoring  # noqa: E402

given = argparse.Namespace(metrics=None)


def promtool(*words):
    done = subprocess.run([PROMTOOL, *map(str, words)], capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


class Rules(unittest.TestCase):
    def test_are_correct(self):
        status, output = promtool("check", "rules", monitoring.RULES)
        self.assertEqual(0, status, output)

    def test_fire_when_they_should(self):
        status, output = promtool("test", "rules", monitoring.RULES_TEST)
        self.assertEqual(0, status, output)

    def test_each_is_tried(self):
        """Seen to fire, and on another instance or at another time not to."""
        tests = monitoring.yaml.safe_load(monitoring.RULES_TEST.read_text())["tests"]
        for rule in monitoring.alerts():
            expected = [[f'alertname="{rule["alert"]}"' in str(check["exp_samples"]) for check in test["promql_expr_test"]]
                        for test in tests if test["name"].startswith(rule["alert"] + ":")]
            with self.subTest(rule["alert"]):
                self.assertTrue(any(True in fires and False in fires for fires in expected))

    def test_say_how_bad_it_is_and_what_it_means(self):
        for rule in monitoring.alerts():
            with self.subTest(rule["alert"]):
                self.assertIn(rule["labels"]["severity"], ("critical", "warning"))
                self.assertEqual({"summary", "description", "runbook"}, set(rule["annotations"]))


class Pages(unittest.TestCase):
    def test_one_for_each_alert(self):
        self.assertEqual({f"{rule['alert']}.md" for rule in monitoring.alerts()},
                         {page.name for page in monitoring.PAGES.iterdir()})

    def test_say_what_the_alert_says(self):
        for rule in monitoring.alerts():
            page = monitoring.ROOT / rule["annotations"]["runbook"]
            with self.subTest(rule["alert"]):
                text = page.read_text()
                self.assertEqual(monitoring.PAGES / f"{rule['alert']}.md", page)
                self.assertTrue(text.startswith(f"# {rule['alert']}\n\nSeverity: {rule['labels']['severity']}.\n"))
                for heading in ("What it means", "What to look at", "What to do"):
                    self.assertIn(f"\n## {heading}\n", text)
                for other in monitoring.re.findall(r"\]\(([^)]*)\)", text):
                    self.assertTrue((page.parent / other).exists(), other)


class Metrics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        printed = subprocess.run([given.metrics, "[.exposition]"], capture_output=True, text=True, timeout=30, check=True)
        cls.metrics = monitoring.exported(printed.stdout)

    def test_are_there(self):
        self.assertGreater(len([name for name in self.metrics if name.startswith("pointsman_")]), 30)

    def test_of_the_rules(self):
        for rule in monitoring.alerts():
            with self.subTest(rule["alert"]):
                self.assertEqual([], monitoring.unknown(rule["expr"], self.metrics))

    def test_of_the_dashboard(self):
        for title, expression in monitoring.dashboard_queries():
            with self.subTest(title, expression=expression):
                self.assertEqual([], monitoring.unknown(expression, self.metrics))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--metrics", type=pathlib.Path, required=True)
    options, rest = parser.parse_known_args()
    vars(given).update(vars(options))
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
