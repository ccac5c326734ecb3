"""The table of a run: one row for each kind of fault, in Markdown."""

import statistics


def _kinds(turns):
    groups = {}
    for turn in turns:
        groups.setdefault(" + ".join(turn["kinds"]), []).append(turn)
    return sorted(groups.items(), key=lambda group: (" + " in group[0], group[0]))


def _total(turns, name):
    return sum(turn[name] for turn in turns)


def _failed(turns, kind):
    failed, own = _total(turns, f"failed {kind}s"), _total(turns, f"failed {kind}s, port closed")
    return f"{failed} of {_total(turns, kind + 's')}" + (f" (+{own})" if own else "")


def _cut(turns):
    cut, stayed = _total(turns, "sessions cut"), _total(turns, "on the leader that stayed")
    return f"{cut} ({stayed})" if cut else "0"


def markdown(turns, wrong, figures):
    lines = ["| fault | tried | failed new writes | failed new reads | wrongly routed | sessions cut | longest outage of "
             "writes (s) | whole again (s) |", "|---|---|---|---|---|---|---|---|"]
    for name, group in _kinds(turns):
        after = [turn["whole after"] for turn in group]
        lines.append(f"| {name} | {len(group)} | {_failed(group, 'write')} | {_failed(group, 'read')} | "
                     f"{_total(group, 'wrongly routed')} | {_cut(group)} | {max(turn['outage'] for turn in group):.1f} | "
                     f"{statistics.median(after):.1f} (at most {max(after):.1f}) |")
    lines += ["", "Failed: of all new connections while the fault lasted and until all was whole again; in brackets those that met "
              "a closed port because HAProxy itself was away. Wrongly routed: writes that a node refused as read-only. "
              "Sessions cut: of two that are kept open; in brackets those on a leader that stayed the leader. Whole again: "
              "from the fault's end until every part runs, every node streams, one standby is synchronous and "
              "HAProxy's slots are in step.", ""]
    lines += [f"- {name}: {value:.1f}" if isinstance(value, float) else f"- {name}: {value}"
              for name, value in figures.items()]
    lines.append(f"- broken invariants: {len(wrong)}")
    return "\n".join(lines) + "\n"
