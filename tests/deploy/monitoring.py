"""What deploy/ has for Prometheus and Grafana, read: the alerts, the dashboard's queries, and the metrics that both name."""

import json
import pathlib
import re

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RULES = ROOT / "deploy/prometheus/pointsman.rules.yml"
RULES_TEST = ROOT / "deploy/prometheus/pointsman.rules.test.yml"
DASHBOARD = ROOT / "deploy/grafana/pointsman.json"
PAGES = ROOT / "docs/alerts"

# Prometheus' own, and no exporter's.
OF_PROMETHEUS = {"up", "ALERTS"}
# Whose values are a set that the daemon has, and not names of somebody's clusters and hosts.
CLOSED_LABELS = {"state", "answer", "answered", "role", "stage", "taken"}

METRIC = re.compile(r"\b(?:pointsman|process)_\w+|\bup\b|\bALERTS\b")
SELECTOR = re.compile(r"(\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
SAMPLE = re.compile(r"^([a-zA-Z_:]\w*)(?:\{(.*)\})? \S+$", re.MULTILINE)


def alerts():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard_queries():
    """(title, expression) of each panel, and of each variable that asks for labels."""
    board = json.loads(DASHBOARD.read_text())
    found = [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel.get("targets", [])]
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            found.append((variable["label"], variable["definition"]))
    return found


def exported(text):
    """Of a /metrics text, the labels of each metric with their values; a histogram by the names of its parts."""
    metrics = {}
    for name, labels in SAMPLE.findall(text):
        values = metrics.setdefault(name, {})
        for label, _, value in MATCHER.findall(labels or ""):
            values.setdefault(label, set()).add(value)
    return metrics


def unknown(expression, metrics):
    """What the expression names and the daemon does not export."""
    found = [name for name in METRIC.findall(expression) if name not in metrics and name not in OF_PROMETHEUS]
    for name, matchers in SELECTOR.findall(expression):
        for label, how, value in MATCHER.findall(matchers):
            if name not in metrics or label in ("instance", "job"):
                continue
            if label not in metrics[name]:
                found.append(f"{name}{{{label}}}")
            elif how == "=" and label in CLOSED_LABELS and value not in metrics[name][label]:
                found.append(f'{name}{{{label}="{value}"}}')
    return found
