"""What the benchmark found, as a table, as CSV, and as a plot."""

import csv
import math
import os
import pathlib
import re
import statistics
import subprocess
import time

# (event, what, how it is put together, column)
TABLE = [
    ("switchover", "node takes writes → first write (s)", "median", "node to first write"),
    ("switchover", "leader key → first write (s)", "median", "key to first write"),
    ("switchover", "writers' outage (s)", "median", "outage"),
    ("switchover", "failed new write connections", "sum", "failed writes"),
    ("switchover", "failed new read connections", "sum", "failed reads"),
    ("switchover", "writes sent to a read-only server", "sum", "wrongly routed writes"),
    ("switchover", "sessions left on the demoted node", "sum", "sessions left"),
    ("switchover", "node takes writes → its slot is ready (ms)", "median", "node to ready ms"),
    ("switchover", "leader key → slot ready, the agent's own part (ms)", "median", "own ms"),
    ("crash", "kill → the dead node's slot is out (s)", "median", "kill to out"),
    ("crash", "node takes writes → first write (s)", "median", "node to first write"),
    ("crash", "leader key → first write (s)", "median", "key to first write"),
    ("crash", "failed new write connections", "sum", "failed writes"),
    ("crash", "and those already handed to the dying node", "sum", "writes handed to the dying node"),
    ("crash", "failed new read connections", "sum", "failed reads"),
    ("crash", "writes sent to a read-only server", "sum", "wrongly routed writes"),
    ("crash", "node takes writes → its slot is ready (ms)", "median", "node to ready ms"),
    ("crash", "leader key → slot ready, the agent's own part (ms)", "median", "own ms"),
    ("join and leave", "failed new write connections", "sum", "failed writes"),
    ("join and leave", "failed new read connections", "sum", "failed reads"),
    ("join and leave", "writes sent to a read-only server", "sum", "wrongly routed writes"),
    ("reload", "failed new write connections", "sum", "failed writes"),
    ("reload", "failed new read connections", "sum", "failed reads"),
    ("reload", "writes sent to a read-only server", "sum", "wrongly routed writes"),
    (None, "commands to HAProxy", "sum", "commands"),
    (None, "reloads of HAProxy", "sum", "reloads"),
]
COLOURS = {"floor": "#888888", "checks": "#c77b1e", "confd": "#b03a5b", "pointsman": "#1f6fb2"}


def own_times(log):
    """The stages of the last failover in this part of the agent's log, in milliseconds."""
    found = re.findall(r"failover from=.*", log)
    if not found:
        return {}
    stages = dict(word.split("=") for word in found[-1].split()[1:])
    return {name.replace("_", " "): float(stages[name]) for name in
            ("old_cut_ms", "probe_yes_ms", "new_ready_ms", "read_back_ms", "own_ms") if stages.get(name, "-") != "-"}


def derived(row):
    """What follows from the benchmark's times, which count from the action, and the agent's, which count from the key."""
    if "new ready ms" not in row:
        return row
    ready = row["key"] + row["new ready ms"] / 1000
    more = {"node to ready ms": 1000 * (ready - row["takes writes"])}
    if row["event"] == "crash" and "old cut ms" in row:
        more["kill to out"] = row["key"] + row["old cut ms"] / 1000
    return row | more


def first_line(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition("\n")[0].split(" - ")[0].strip()


def hardware():
    model = next((line.partition(":")[2].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    return (f"{time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores ({model}), {memory} GiB, all of it on this machine's "
            "loopback")


def machine(options, timing):
    return (f"{hardware()}, fsync off. {first_line(options.haproxy, '-v')}; {first_line('/usr/bin/patroni', '--version')}; "
            f"{first_line('/usr/bin/etcd', '--version')}; {first_line('/usr/bin/psql', '--version')}. "
            f"ttl {timing['ttl']}, loop_wait {timing['loop_wait']}. "
            "A new write and a new read connection every 10 ms, at most 40 of each under way, and 2 kept sessions of each.")


def values(rows, system, event, column):
    return [row[column] for row in rows if row["system"] == system and event in (None, row["event"]) and column in row]


def cell(found, how, unit=""):
    if not found:
        return "–"
    if how == "sum":
        return f"{sum(found)}"
    digits = 1 if unit == "(ms)" else 3
    return f"{statistics.median(found):.{digits}f}, worst {max(found):.{digits}f}"


def table(rows, about):
    compared = list(dict.fromkeys(row["system"] for row in sorted(rows, key=lambda row: list(COLOURS).index(row["system"]))))
    lines = [about, "", "| | " + " | ".join(compared) + " |", "|---" * (len(compared) + 1) + "|"]
    for event in ("switchover", "crash", "join and leave", "reload"):
        counts = {system: len([row for row in rows if row["system"] == system and row["event"] == event])
                  for system in compared}
        if not any(counts.values()):
            continue
        lines.append(f"| **{event}** | " + " | ".join(f"× {counts[system]}" if counts[system] else "–" for system in compared)
                     + " |")
        lines.append("| new connections, writes and reads | " + " | ".join(
            f"{sum(values(rows, system, event, 'writes'))}, {sum(values(rows, system, event, 'reads'))}"
            for system in compared) + " |")
        lines += [f"| {what} | " + " | ".join(cell(values(rows, system, event, column), how, what[-4:]) for system in compared)
                  + " |" for which, what, how, column in TABLE if which == event]
    lines.append("| **all of it** | " + " |" * len(compared))
    lines += [f"| {what} | " + " | ".join(cell(values(rows, system, None, column), how) for system in compared) + " |"
              for which, what, how, column in TABLE if which is None]
    return "\n".join(lines) + "\n"


def plot(rows):
    """One dot for each event, on a logarithmic scale, and the median as a bar."""
    panels = [("switchover", "node to first write", "switchover: node takes writes → first write"),
              ("switchover", "outage", "switchover: writers' outage"),
              ("crash", "key to first write", "crash: leader key → first write")]
    low, high, width, height, left = 0.001, 100.0, 720, 34, 90
    compared = [system for system in COLOURS if any(row["system"] == system for row in rows)]

    def x(seconds):
        return left + (width - left - 20) * math.log10(min(max(seconds, low), high) / low) / math.log10(high / low)

    parts, y = [], 10
    for event, column, title in panels:
        parts.append(f'<text x="{left}" y="{y + 14}" font-weight="bold">{title}</text>')
        y += 24
        top = y
        for system in compared:
            found = values(rows, system, event, column)
            middle = y + height / 2
            parts.append(f'<text x="{left - 8}" y="{middle + 4}" text-anchor="end">{system}</text>')
            for number, value in enumerate(found):
                offset = (number % 5 - 2) * 4
                parts.append(f'<circle cx="{x(value):.1f}" cy="{middle + offset:.1f}" r="3.5" fill="{COLOURS[system]}" '
                             f'fill-opacity="0.65"><title>{value:.3f} s</title></circle>')
            if found:
                at = x(statistics.median(found))
                parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y + 3}" y2="{y + height - 3}" stroke="#222" '
                             'stroke-width="2"/>')
            y += height
        for exponent in range(-3, 3):
            at = x(10.0 ** exponent)
            label = f"{10.0 ** exponent:g} s"
            parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{y}" stroke="#ccc"/>')
            parts.append(f'<text x="{at:.1f}" y="{y + 14}" text-anchor="middle" fill="#666">{label}</text>')
        y += 34
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y}" viewBox="0 0 {width} {y}" '
            'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="white"/>\n'
            + "\n".join(parts) + "\n</svg>\n")


def write_csv(file, rows):
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with open(file, "w", newline="", encoding="utf-8") as output:
        writer = csv.DictWriter(output, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})


def write(folder, rows, failures, about):
    rows = [derived(row) for row in rows]
    write_csv(folder / "events.csv", rows)
    write_csv(folder / "failures.csv", failures)
    (folder / "table.md").write_text(table(rows, about))
    (folder / "plot.svg").write_text(plot(rows))
