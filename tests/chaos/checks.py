"""What must hold whatever happens, seen from outside: from etcd's keys, the nodes' answers, HAProxy's slots and the clients.

Times are of CLOCK_MONOTONIC.
"""

import bisect
import collections
import contextlib
import json
import re
import threading
import time
import urllib.request

import parts
from lab import clients
from lab.observer import Observer
from lab.wait import Late, until

TOLD = 0.5  # seconds from a new leader key in etcd to the last write and the last session on the old leader
LATE_NEWS = 1.0  # seconds by which we may see a leader key later than the agent did
REWIND = 10.0  # seconds that a replica which says yes may be behind the leader's timeline and wait (rewind_hold)
OBSERVED_WITHIN = 1.5  # seconds: what is asked ten times a second, and may take one to answer
UNFIT_FOR = 3.0  # seconds of 503 after which nobody may be sent to read there: two probes, and a drain
RECOVERY = 6.0  # seconds after which the agent knows and acts again: its full read of etcd, every 5 s


class Keys:
    """Every value that `leader` and `sync` have had, in the order of etcd's revisions, from a watch at every member."""

    def __init__(self, lab):
        self.lab = lab
        self.seen = {"leader": {}, "sync": {}}  # name: {revision: (first seen, value)}
        self.lock = threading.Lock()
        for url in lab.etcd.urls:
            threading.Thread(target=self._follow, args=(url,), daemon=True).start()

    def _follow(self, url):
        prefix, revision = self.lab.key(""), 1
        while True:
            try:
                create = {"key": parts.encode(prefix), "range_end": parts.encode(prefix[:-1] + "0"),
                          "start_revision": revision}
                request = urllib.request.Request(url + "/v3/watch", json.dumps({"create_request": create}).encode())
                with urllib.request.urlopen(request, timeout=10) as stream:
                    for line in stream:
                        revision = self._take(json.loads(line).get("result", {}), prefix, revision)
            except (OSError, ValueError):
                time.sleep(0.05)

    def _take(self, result, prefix, revision):
        now = time.monotonic()
        if "compact_revision" in result:
            return int(result["compact_revision"]) + 1
        for event in result.get("events", []):
            key, at = parts.decode(event["kv"]["key"]), int(event["kv"]["mod_revision"])
            revision = max(revision, at + 1)
            if key[len(prefix):] in self.seen:
                value = None if event.get("type") == "DELETE" else parts.decode(event["kv"].get("value", ""))
                with self.lock:
                    self.seen[key[len(prefix):]].setdefault(at, (now, value))
        return revision

    def history(self, name):
        """[(first seen, revision, value)] in order of revisions."""
        with self.lock:
            return [(at, revision, value) for revision, (at, value) in sorted(self.seen[name].items())]

    def terms(self):
        """[(since, revision, node's name)]: who was named, each until the next; a key that is gone ends no term."""
        terms = []
        for at, revision, name in self.history("leader"):
            if name and (not terms or terms[-1][2] != name):
                terms.append((at, revision, name))
        return terms

    def synchronous_before(self, revision):
        """The names in the sync key as it was before this revision."""
        last = next((value for _, at, value in reversed(self.history("sync")) if at < revision), None)
        state = json.loads(last) if last else {}
        return {name for name in [state.get("leader"), *(state.get("sync_standby") or "").split(",")] if name}


class Tail:
    """The lines of a file of JSON objects that were not seen before."""

    def __init__(self, path):
        self.file = open(path, encoding="utf-8")
        self.rest = ""

    def fresh(self):
        *whole, self.rest = (self.rest + self.file.read()).split("\n")
        return [json.loads(line) for line in whole]


def changes_of(node):
    def question():
        status = node.get("/replica", timeout=1)[0]
        return None if status is None else status == 200
    return Observer(question, period=0.1)


def ask_leader(lab, statement, *values):
    """(the leader, what it answers); the leader may still change where a fault has a late effect."""
    def answer():
        leader = lab.writable_leader()
        try:
            return leader and (leader, clients.execute(leader, statement, *values))
        except clients.psycopg2.Error:
            return None
    return until(answer, 60, "the leader answers a query", every=0.5)


def held(changes, wanted, since, until_then):
    """Whether the answer was as wanted all the time between the two."""
    index = bisect.bisect_right(changes, since, key=lambda change: change[0]) - 1
    return index >= 0 and all(answer is wanted for at, answer in changes[index:] if at <= until_then)


class Checks:
    def __init__(self, lab, world, load, sampler, nodes):
        self.lab, self.world = lab, world
        self.keys = Keys(lab)
        self.nodes = {node.address: node for node in nodes}
        self.fit = {node.address: changes_of(node) for node in nodes}
        self.load, self.lines = load, Tail(load.file)
        self.sampler, self.samples = sampler, Tail(sampler.file)
        self.blind = []  # (begin, end)
        self.rows = {}  # id: (at, node's address) of every acknowledged row
        self.unchecked = set()
        self.counts = collections.Counter()  # of what was looked at
        self.last_writes = collections.deque(maxlen=400)
        self.uncovered = 0  # rows lost to a leader that Patroni promoted though it was not synchronous

    # A turn: a fault and what came of it

    def turn(self, begun, ended, whole, kinds):
        """Looks at all that happened since the last turn; returns what was wrong and what is to be reported."""
        time.sleep(0.5)
        if any(kind.blind for kind in kinds):
            self.blind.append((begun, ended + RECOVERY))
        wrong = []
        wrong += self.stuck(whole)
        taken, lines = time.monotonic(), self.lines.fresh()
        wrong += self.writes(lines)
        wrong += self.reads(lines)
        wrong += self.sessions(lines)
        wrong += self.left_behind()
        wrong += self.slots()
        wrong += self.lost()
        report = self.report(lines, begun, ended, whole, taken)
        if all(kind.harmless for kind in kinds):
            harmed = report["failed writes"] + report["failed reads"] + report["sessions cut"]
            if harmed:
                wrong.append(("harmless", f"{harmed} attempts failed or sessions were cut", self.failures(lines, begun)))
        return wrong, report

    def failures(self, lines, since, most=8):
        return [line for line in lines if not line["ok"] and line["end"] >= since][:most]

    def report(self, lines, begun, ended, whole, taken):
        lines = [line for line in lines if line["end"] >= begun]
        row = {}
        for kind in ("write", "read"):
            failed = [line for line in lines if line["kind"] == kind and not line["ok"]]
            own = [line for line in failed
                   if any(line["end"] >= since and line["start"] <= till for since, till in self.world.closed)]
            row[f"{kind}s"] = sum(line["kind"] == kind for line in lines)
            row[f"failed {kind}s"] = len(failed) - len(own)
            row[f"failed {kind}s, port closed"] = len(own)
            row[f"longest {kind}"] = max((line["end"] - line["start"] for line in lines
                                          if line["kind"] == kind and line["ok"]), default=0.0)
        row["wrongly routed"] = sum(line["code"] == clients.READ_ONLY for line in lines)
        cut = [line for line in lines if self.is_cut(line)]
        row["sessions cut"] = len(cut)
        row["on the leader that stayed"] = sum(self.stays_leader(line, whole) for line in cut)
        ends = [line["end"] for line in lines if line["ok"] and line["kind"] in ("write", "kept write")]
        ends = sorted([begun, *ends, taken])
        row["outage"] = max(after - before for before, after in zip(ends, ends[1:]))
        row["lasted"], row["whole after"] = ended - begun, whole - ended
        row["errors"] = collections.Counter(f"{line['kind']}, {line['phase']}: {line['error'].rpartition('failed: ')[2]}"
                                            for line in lines if not line["ok"])
        return row

    @staticmethod
    def is_cut(line):
        return line["kind"] == "kept" and not line["ok"] and line["phase"] == "query"

    def stays_leader(self, line, whole):
        node = self.nodes.get(line["node"])
        return node is not None and self.named(line["end"] - 1, whole) == {node.name}

    # The rules

    def named(self, since, till):
        """The nodes that the leader key named at some time between the two."""
        terms = self.keys.terms()
        index = max(0, bisect.bisect_right(terms, since, key=lambda term: term[0]) - 1)
        return {name for at, _, name in terms[index:] if at <= till}

    def sees(self, since, till):
        """Whether the agent could know and act all the time between the two."""
        return not any(begin <= till and since <= end for begin, end in self.blind)

    def excused(self, at):
        """Whether an operator's hand has just routed as it pleased."""
        return any(begin <= at <= end for begin, end in self.world.excused)

    def away(self, address, since, till):
        """Whether the agent or HAProxy could not reach the node at some time between the two, or just before."""
        return any(where == address and begin <= till and (end is None or since <= end + RECOVERY)
                   for begin, end, where in self.lab.away)

    def writes(self, lines):
        written = [line for line in lines if line["ok"] and line["id"]]
        for line in written:
            # The node's clock, unless somebody has set that.
            line["wrote"] = line["at"] if line["start"] <= line["at"] <= line["end"] else line["end"]
            self.rows[line["id"]] = (line["wrote"], line["node"])
            self.unchecked.add(line["id"])
        self.counts["acknowledged writes"] += len(written)
        for line in written:
            node = self.nodes.get(line["node"])
            named = self.named(line["wrote"] - TOLD, line["wrote"] + LATE_NEWS)
            if node is None or (node.name not in named and self.sees(line["wrote"] - TOLD, line["wrote"])):
                yield "wrong node", f"a write was served by {line['node']}, the leader key named {named}", line
        for line in lines:
            if (line["code"] == clients.READ_ONLY and self.sees(line["start"], line["end"])
                    and not self.excused(line["start"])):
                yield "read-only", "a write was sent to a node that takes none", line
        yield from self.two_writers(written)

    def two_writers(self, written):
        """Acknowledged writes on A, then B, then A again are two writers at once, unless A was named again."""
        self.last_writes.extend(written)
        ordered = sorted(self.last_writes, key=lambda line: line["wrote"])
        back = {}  # node: its last write
        for before, line in zip(ordered, ordered[1:]):
            back[before["node"]] = before
            if line["node"] != before["node"] and line["node"] in back:
                earlier = back[line["node"]]
                others = {at for at, _, _ in self.keys.terms() if earlier["wrote"] - TOLD <= at <= line["wrote"] + LATE_NEWS}
                if len(others) < 2:
                    yield "two writers", f"{line['node']} and {before['node']} took writes in turn", [earlier, before, line]
        self.last_writes = collections.deque((line for line in ordered[-400:]), maxlen=400)

    def reads(self, lines):
        for line in lines:
            if line["kind"] != "read" or not line["ok"]:
                continue
            self.counts["reads"] += 1
            # Up to its end: it may have been held.
            since, till, node = line["end"] - UNFIT_FOR, line["end"], line["node"]
            if node not in self.fit:
                yield "wrong node", f"a read was served by {node}", line
            elif held(self.fit[node].changes, False, since, till + OBSERVED_WITHIN) and self.sees(since, till):
                leads = self.nodes[node].name in self.named(since, till)
                # The leader may serve reads (`fallback: primary`) until another is fit and on its timeline.
                fit_since = since - REWIND if leads else since
                others = [other for other, observer in self.fit.items()
                          if other != node and held(observer.changes, True, fit_since, till)
                          and not self.away(other, fit_since, till)]
                if others or not leads:
                    yield "unfit reader", f"a read was served by {node}, which has said no for {UNFIT_FOR:.0f} s", line

    def sessions(self, lines):
        """A session on a leader that was followed by another ends with its term."""
        terms = self.keys.terms()
        for line in lines:
            if not self.is_cut(line):
                continue
            self.counts["sessions cut"] += 1
            name = self.nodes[line["node"]].name if line["node"] in self.nodes else None
            after = next((at for at, _, named in terms if at > line["start"] and named != name), None)
            if after is not None and line["end"] > after + TOLD and self.sees(after, line["end"]):
                yield "session left", f"a session on {name} was cut {line['end'] - after:.1f} s after another led", line

    def left_behind(self):
        """Nobody who asked for the primary is still on another node."""
        query = ("SELECT pid, application_name, backend_start::text, state FROM pg_stat_activity "
                 "WHERE application_name IN ('lab write', 'lab kept') AND client_addr = %s")
        leader = self.lab.wait_writable()
        for node in self.lab.running_nodes():
            if node.name == leader.name:
                continue
            self.counts["nodes asked for sessions"] += 1
            left = []

            def nobody():
                left[:] = clients.execute(node, query, self.lab.proxy_address)
                return not left
            try:
                until(nobody, 2, f"nobody is left on {node.name}")
            except Late as late:
                yield "session left", str(late), [list(map(str, row)) for row in left]

    def stuck(self, whole):
        """Once all is whole, every client gets on."""
        served, ended = set(), []
        tail = Tail(self.load.file)

        def everyone():
            for line in tail.fresh():
                if line["end"] >= whole:
                    ended.append(line)
                    if line["ok"]:
                        served.add(line["by"])
            return len(served) >= self.load.number
        try:
            until(everyone, 20, "every client is served", every=0.2)
            return
        except Late:
            late = sorted(served)
        # Known: what a dying slot refused and a reload then left in the old worker, is tried there until it gives up.
        reload = max(self.lab.reloads, default=None)
        if reload and reload > whole - 60:
            with contextlib.suppress(Late):
                until(everyone, 30, "every client is served", every=0.2)
                stranded = [line for line in ended if not line["ok"]]
                if all(line["start"] <= reload and "error response" not in line["error"] for line in stranded):
                    self.counts["stranded in the retries of an old worker"] += len(stranded)
                    return
        yield "stuck", "a client is not served though all is whole", {"served": late, "ended": ended[-20:]}

    def slots(self):
        for line in self.samples.fresh():
            self.counts["slots sampled"] = line.get("samples", self.counts["slots sampled"])
            if "violation" not in line or line["violation"].startswith("HAProxy's socket"):
                continue
            if not self.excused(line["t"]):
                yield "slots", line["violation"], line

    def lost(self, everything=False):
        """Every acknowledged row is on the leader."""
        wanted = list(self.rows if everything else self.unchecked)
        leader, rows = ask_leader(self.lab, "SELECT id FROM ledger WHERE id = ANY(%s)", wanted)
        found = {row[0] for row in rows}
        self.counts["rows looked for"] += len(wanted)
        self.unchecked.clear()
        lost = [row for row in wanted if row not in found]
        covered = []
        for row in lost:
            if self.was_covered(*self.rows[row]):
                covered.append({"id": row, "at": self.rows[row][0], "node": self.rows[row][1]})
            else:
                self.uncovered += 1
            del self.rows[row]
        if covered:
            yield "lost", f"{len(covered)} acknowledged rows are not on {leader.name}", covered[:20]

    def was_covered(self, at, address):
        """Whether every leader that came after the row was written was synchronous when it was promoted."""
        name = self.nodes[address].name if address in self.nodes else None
        for since, revision, named in self.keys.terms():
            if since > at - LATE_NEWS and named != name and named not in self.keys.synchronous_before(revision):
                return False
        return True


# --- the agent itself

class Lives:
    """The agent's memory and open files, from the first look at each of its lives to the last."""

    def __init__(self, lab):
        self.lab = lab
        self.lives = {}  # process id: [(resident, files)]

    def look(self):
        pid, status = self.lab.processes.pid("pointsman"), self.lab.status()
        if pid and status:
            self.lives.setdefault((self.lab.lives, pid), []).append(status)

    def figures(self):
        looks = [life for life in self.lives.values() if len(life) > 1]
        return {"lives": self.lab.lives,
                "most memory (MiB)": max(r for life in self.lives.values() for r, _ in life) / (1 << 20),
                "growth within one life (MiB)": max((life[-1][0] - life[0][0] for life in looks), default=0) / (1 << 20),
                "most files": max(f for life in self.lives.values() for _, f in life),
                "growth of files within one life": max((life[-1][1] - life[0][1] for life in looks), default=0)}


def repetitions(log, most=5):
    """[(times within one minute of one life of the agent, text)] of what the log says most often, with numbers taken out."""
    counted, life = collections.Counter(), 0
    for line in log.read_text(errors="replace").splitlines():
        at = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)\S* ", line)
        if at:
            text = re.sub(r"\d+", "#", line[at.end():])[:160]
            life += text.startswith("info: pointsman #")
            counted[life, at[1], text] += 1
    worst = {}
    for (_, _, text), times in counted.items():
        worst[text] = max(times, worst.get(text, 0))
    return sorted(((times, text) for text, times in worst.items()), reverse=True)[:most]
