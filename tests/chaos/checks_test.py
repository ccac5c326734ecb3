"""Each invariant of checks.py seen to hold and to break, on made-up evidence, without a cluster."""

import collections
import pathlib
import sys
import types
import unittest
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "deploy")]
sys.path.append(str(ROOT / "tests/e2e"))

import checks  # noqa: E402
from lab.patroni import Node  # noqa: E402

A, B = "127.0.57.1", "127.0.57.2"


def write(start, end, node, code=None, kind="write"):
    return {"kind": kind, "by": "w0", "start": start, "end": end, "at": end, "ok": code is None, "code": code, "node": node,
            "id": f"{node}-{end}", "phase": "query", "error": code}


class Broken(unittest.TestCase):
    def setUp(self):
        self.checks = checks.Checks.__new__(checks.Checks)
        self.checks.nodes = {address: Node(f"node{address[-1]}", address, pathlib.Path("/nowhere")) for address in (A, B)}
        self.checks.fit = {address: types.SimpleNamespace(changes=[(0, False)]) for address in (A, B)}
        self.checks.lab = types.SimpleNamespace(away=[])
        self.checks.blind, self.checks.rows, self.checks.unchecked = [], {}, set()
        self.checks.counts, self.checks.uncovered = collections.Counter(), 0
        self.checks.last_writes = collections.deque(maxlen=400)
        self.checks.world = types.SimpleNamespace(excused=[], closed=[])
        self.checks.keys = checks.Keys.__new__(checks.Keys)
        self.checks.keys.lock = mock.MagicMock()
        # node1 leads from 10, node2 from 20 on; it was synchronous.
        self.leads((10, 5, "node1"), (20, 9, "node2"))
        self.checks.keys.seen["sync"] = {6: (11, '{"leader": "node1", "sync_standby": "node2"}')}

    def leads(self, *terms):
        self.checks.keys.seen = {"leader": {revision: (at, name) for at, revision, name in terms},
                                 "sync": getattr(self.checks.keys, "seen", {}).get("sync", {})}

    def rules(self, found):
        return [rule for rule, *_ in found]

    def test_write_on_the_wrong_node(self):
        self.assertEqual([], self.rules(self.checks.writes([write(15, 15.1, A), write(21, 21.1, B)])))
        self.assertEqual([], self.rules(self.checks.writes([write(20.3, 20.4, A)])))
        self.assertIn("wrong node", self.rules(self.checks.writes([write(21, 21.1, A)])))
        self.assertIn("wrong node", self.rules(self.checks.writes([write(15, 15.1, B)])))

    def test_write_while_the_agent_is_blind(self):
        self.checks.blind = [(20, 30)]
        self.assertEqual([], self.rules(self.checks.writes([write(21, 21.1, A)])))

    def test_leader_key_that_is_gone_ends_no_term(self):
        self.leads((10, 5, "node1"), (14, 7, None))
        self.assertEqual([], self.rules(self.checks.writes([write(15, 15.1, A)])))

    def test_read_only(self):
        self.assertEqual(["read-only"], self.rules(self.checks.writes([write(21, 21.1, B, code="25006")])))
        self.checks.blind = [(20, 30)]
        self.assertEqual([], self.rules(self.checks.writes([write(21, 21.1, B, code="25006")])))
        self.checks.blind = []
        self.checks.world.excused = [(20, 22)]
        self.assertEqual([], self.rules(self.checks.writes([write(21, 21.1, B, code="25006")])))
        self.assertEqual(["read-only"], self.rules(self.checks.writes([write(23, 23.1, B, code="25006")])))

    def test_two_writers(self):
        self.checks.blind = [(0, 100)]  # routing is another rule
        self.assertEqual([], self.rules(self.checks.writes([write(15, 15.1, A), write(21, 21.1, B)])))
        found = self.rules(self.checks.writes([write(21.2, 21.3, A), write(21.4, 21.5, B)]))
        self.assertIn("two writers", found)

    def test_back_and_forth_is_not_two_writers(self):
        self.leads((10, 5, "node1"), (20, 9, "node2"), (30, 12, "node1"))
        self.assertEqual([], self.rules(self.checks.writes([write(15, 15.1, A), write(21, 21.1, B), write(31, 31.1, A)])))

    def test_session_left_on_the_old_leader(self):
        def cut(end):
            return {**write(12, end, A, code="57P01", kind="kept")}
        self.assertEqual([], self.rules(self.checks.sessions([cut(20.2)])))
        self.assertEqual([], self.rules(self.checks.sessions([cut(18)])))
        self.assertEqual(["session left"], self.rules(self.checks.sessions([cut(21)])))

    def test_unfit_reader(self):
        self.checks.fit[A].changes = [(0, True), (30, False)]
        self.checks.fit[B].changes = [(0, True)]

        def read(end):
            return [{**write(end - 0.1, end, A), "kind": "read"}]
        self.assertEqual([], self.rules(self.checks.reads(read(32))))
        self.assertEqual(["unfit reader"], self.rules(self.checks.reads(read(34))))
        self.checks.fit[A].changes.append((35, True))
        self.assertEqual([], self.rules(self.checks.reads(read(34))))  # it may have said yes before it was asked
        self.checks.fit[A].changes.pop()
        self.checks.fit[B].changes = [(0, False)]
        self.leads((10, 5, "node1"))  # the fallback
        self.assertEqual([], self.rules(self.checks.reads(read(34))))
        self.checks.fit[B].changes = [(0, False), (30, True)]
        self.assertEqual([], self.rules(self.checks.reads(read(42))))  # it may be on an older timeline as yet
        self.assertEqual(["unfit reader"], self.rules(self.checks.reads(read(44))))
        self.checks.lab.away = [[10, 20, B]]
        self.assertEqual(["unfit reader"], self.rules(self.checks.reads(read(44))))
        self.checks.lab.away = [[10, None, B]]
        self.assertEqual([], self.rules(self.checks.reads(read(44))))

    def lost(self, found):
        list(self.checks.writes([write(15, 15.1, A)]))
        leader = self.checks.nodes[B]
        with mock.patch.object(checks, "ask_leader", return_value=(leader, [(row,) for row in found])):
            return self.rules(self.checks.lost())

    def test_lost_row(self):
        self.checks.lab = None
        self.assertEqual([], self.lost([f"{A}-15.1"]))
        self.assertEqual(["lost"], self.lost([]))

    def test_row_lost_to_a_leader_that_was_not_synchronous(self):
        self.checks.lab = None
        self.checks.keys.seen["sync"] = {6: (11, '{"leader": "node1", "sync_standby": null}')}
        self.assertEqual([], self.lost([]))
        self.assertEqual(1, self.checks.uncovered)

    def test_slots(self):
        line = {"violation": "two ready slots in the primary pool", "t": 15, "rows": []}
        self.checks.samples = mock.Mock(fresh=lambda: [line])
        self.assertEqual(["slots"], self.rules(self.checks.slots()))
        self.checks.world.excused = [(14, 16)]
        self.assertEqual([], self.rules(self.checks.slots()))

    def test_repetitions(self):
        log = mock.Mock(read_text=lambda errors: "".join(f"2026-11-24T21:33:{n:02}.1 info: again {n}\n" for n in range(60)))
        self.assertEqual([(60, "info: again #")], checks.repetitions(log))
        lives = mock.Mock(read_text=lambda errors: 60 * "2026-11-24T21:33:01.1 info: pointsman 0.1\n2026-11-24T21:33:01.2 info: in\n")
        self.assertEqual({1}, {times for times, _ in checks.repetitions(lives)})


if __name__ == "__main__":
    unittest.main(verbosity=2)
