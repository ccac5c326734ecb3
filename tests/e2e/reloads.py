"""HAProxy reloaded a hundred times, half with -sf and half by its master, under clients that open connections all the time
and through two switchovers (R8); and what the old workers are left with (R9)."""

import os
import random
import select
import signal
import threading
import time

import scenario
from lab import clients, haproxy, proxy
from lab.observer import leader_key
from lab.wait import until
from routing import Leaders, process_and_slots

RELOADS = int(os.environ.get("POINTSMAN_E2E_RELOADS", "100"))
PERIOD = 0.02  # seconds from one connection of a client to its next
PAUSE = 0.3  # seconds between reloads, at most
CUT_WITHIN = 1.0  # seconds from the new leader key until the sessions in old workers are cut


class Reloads:
    """One half of them."""

    def test_reloads(self):
        leader = self.lab.leader()
        clients.create_ledger(leader)
        key = leader_key(self.lab)
        self.addCleanup(key.stop)
        sampler = self.sample()
        load = self.clients(writers=4, readers=2, kept=2, period=PERIOD)
        load.wait_served("write", leader, 0, 20)
        load.wait_served("read", next(node for node in self.lab.nodes() if node.name != leader.name), 0, 20)
        self.lab.wait_in_step()
        until(self.lab.state_file.exists, 5, "the agent keeps the state file")

        chance = random.Random(1)
        self.steady, self.during, self.most = [], 0, 0
        count = RELOADS // 2
        self.reload_for(count // 2, chance)
        sent = len(self.commands())
        switched = self.switch_under_reloads(chance)
        moved = len(self.commands()) - sent
        self.reload_for(count - len(self.steady) - self.during, chance)

        load.stop()
        key.stop()
        self.report(load)
        self.figure(f"commands sent: {len(self.commands()) - sent - moved} in the {len(self.steady)} reloads of a cluster "
                    f"at rest, {moved} in the switchover")
        self.figure(f"processes of HAProxy: {self.most} at most, {len(self.lab.proxy.pids())} at the end")
        leaders = Leaders(key, self.lab.nodes())
        writes = self.seen(load, "write", "writers")
        reads = self.seen(load, "read", "readers")
        wrong = leaders.wrong_writes(load.records())
        self.figure(f"wrongly routed: {len(wrong)} of {writes.count} write connections")
        kept = [line for line in load.records() if line["kind"] == "kept" and not line["ok"]]
        self.assertEqual([], [line["error"] for line in kept if not switched[0] < line["end"] < switched[1]],
                         "kept sessions live on in their old worker")
        self.assertEqual([], wrong[:3])
        self.assertEqual([], leaders.wrong_slots(sampler.lines())[:3])
        self.assert_untouched(writes)
        self.assert_untouched(reads)
        self.assert_never_wrong(sampler)

    def reload_for(self, count, chance):
        for _ in range(count):
            self.steady.append(self.reload(process_and_slots(self.lab.socket)[1]))
            time.sleep(chance.uniform(0, PAUSE))

    def reload(self, wanted):
        """Seconds from the request to the new process, and from there to its slots in step; waits for no slots where
        `wanted` is None."""
        before = haproxy.identity(self.lab.socket)[0]
        asked = self.lab.proxy.reload()
        new = None

        def there():
            nonlocal new
            pid, slots = process_and_slots(self.lab.socket)
            if pid not in (None, before):
                new = new or time.monotonic()
            return new and (wanted is None or slots == wanted)

        until(there, 30, "the new HAProxy has its slots in step", every=0.003)
        self.most = max(self.most, len(self.lab.proxy.pids()))
        return new - asked, time.monotonic() - new

    def switch_under_reloads(self, chance):
        """Reloads one after the other until the switchover is through. Returns when it began and ended."""
        old = self.lab.wait_writable()
        new = next(node for node in self.lab.nodes() if node.name != old.name)
        self.lab.wait_complete()
        begun = time.monotonic()
        switching = threading.Thread(target=self.lab.switchover, args=(new,))
        switching.start()
        while switching.is_alive() or not self.lab.in_step():
            self.reload(None)
            self.during += 1
            time.sleep(chance.uniform(0, PAUSE / 3))
        switching.join()
        self.figure(f"switchover from {old.name} to {new.name}: {self.during} reloads during it")
        self.assertEqual(new.name, self.lab.leader().name)
        self.lab.wait_in_step(30)
        until(lambda: self.lab.running_nodes() and self.lab.streaming(old), 60, f"{old.name} follows", every=0.1)
        self.lab.wait_in_step(30)
        return begun, time.monotonic()

    def report(self, load):
        for what, times in zip(("request to new process", "new process to slots in step"), zip(*self.steady)):
            middle = sorted(times)[len(times) // 2]
            self.figure(f"{len(times)} reloads, {what}: median {1000 * middle:.1f} ms, longest {1000 * max(times):.1f} ms")
        records = load.records()
        seconds = max(line["end"] for line in records) - min(line["start"] for line in records)
        self.figure(f"{len(records) / seconds:.0f} connections a second")


class Seamless(Reloads, scenario.Scenario):
    haproxy_way = proxy.SEAMLESS

    def test_reloads(self):
        super().test_reloads()
        self.assertIn("haproxy.master_socket is not set: sessions that HAProxy's old workers hold", self.log())


class MasterWorker(Reloads, scenario.Scenario):
    haproxy_way = proxy.MASTER
    with_master_socket = True


class Kept:
    """A session through HAProxy that nothing is asked of: its end, once it is cut, is seen at once."""

    def __init__(self, test, port, node):
        self.ended = None
        while True:  # until HAProxy's turn comes to this node
            self.connection = clients.connect(test.lab.proxy_address, port, connect_timeout=10)
            if self.ask("SELECT host(inet_server_addr())") == node.address:
                break
            self.connection.close()
        test.addCleanup(self.close)
        threading.Thread(target=self._watch, daemon=True).start()

    def ask(self, statement):
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0]

    def _watch(self):
        select.select([self.connection], [], [])
        self.ended = time.monotonic()

    def close(self):
        self.connection.close()


class OldWorkers(scenario.Scenario):
    """Sessions that old workers hold: with a demoted node they are cut, with others they are not (R9, R10)."""

    haproxy_way = proxy.MASTER
    with_master_socket = True

    def test_demotion(self):
        clients.create_ledger(self.lab.leader())
        self.demote("switchover", lambda old, new: self.lab.switchover(new))
        self.demote("crash of Patroni alone, whose PostgreSQL runs on",
                    lambda old, new: self.lab.crash_node(old, patroni_only=True))

    def demote(self, what, change):
        self.lab.wait_complete()
        self.lab.wait_in_step(30)
        old = self.lab.wait_writable()
        others = [node for node in self.lab.nodes() if node.name != old.name]
        writing = [Kept(self, 5000, old)]
        reading = [Kept(self, 5001, node) for node in others]
        self.reload()
        writing.append(Kept(self, 5000, old))
        self.reload()
        workers = len(self.lab.proxy.pids()) - 2
        self.assertEqual(2, workers, "old workers that hold sessions")
        key = leader_key(self.lab)
        self.addCleanup(key.stop)

        begun = time.monotonic()
        change(old, others[0])
        moved = until(lambda: key.first(lambda name: name not in (None, old.name), begun), 60, "a new leader key",
                      every=0.01)
        key.stop()
        until(lambda: all(session.ended for session in writing), 10, f"the sessions on {old.name} are cut")
        cut = max(session.ended for session in writing) - moved
        self.figure(f"{what}: sessions in {workers} old workers cut {1000 * cut:+.0f} ms from the new leader key")
        self.assertLess(cut, CUT_WITHIN)
        if not self.lab.processes.pid(old.name):
            self.lab.start_node(int(old.name[4:]))
        self.lab.wait_complete()
        self.lab.wait_in_step(30)
        for session, node in zip(reading, others):
            self.assertIsNone(session.ended, f"the session on {node.name}, which was not demoted, lives on")
            self.assertEqual(1, session.ask("SELECT 1"))
            session.close()

    def reload(self):
        before = self.lab.proxy.identity()
        self.lab.proxy.reload()
        until(lambda: self.lab.proxy.identity() not in (None, before), 10, "the new worker answers")
        self.lab.wait_in_step()


class Restarts(scenario.Scenario):
    """HAProxy stopped or killed and started again (R8): with the state file, without it, and without the agent."""

    def test_restarts(self):
        leader = self.lab.leader()
        clients.create_ledger(leader)
        key = leader_key(self.lab)
        self.addCleanup(key.stop)
        sampler = self.sample()
        load = self.clients(writers=4, readers=2, kept=2, period=PERIOD)
        load.wait_served("write", leader, 0, 20)
        until(self.lab.state_file.exists, 5, "the agent keeps the state file")
        time.sleep(2)  # a replica comes in after two yeses
        self.wanted = process_and_slots(self.lab.socket)[1]
        chance = random.Random(2)

        self.downs = []
        self.restart_for(20, chance, "with the state file")
        self.lab.processes.stop("pointsman")
        self.restart_for(2, chance, "with the state file and without the agent")
        self.lab.start_agent()
        self.restart_for(5, chance, "with the state file removed", lambda: self.lab.state_file.unlink(missing_ok=True))
        load.stop()
        key.stop()

        records = load.records()
        wrong = Leaders(key, self.lab.nodes()).wrong_writes(records)
        for kind, what in (("write", "writers"), ("read", "readers")):
            seen = self.seen(load, kind, what)
            refused = [line for line in seen.failures if self.closed_port(line)]
            cut = [line for line in seen.failures if self.killed(line)]
            others = [line for line in seen.failures if line not in refused and line not in cut]
            self.figure(f"{what}: {len(refused)} met the closed port, {len(cut)} were in the process that ended, "
                        f"{len(others)} failed otherwise")
            self.assertGreater(seen.count, 0)
            self.assertEqual([], [line["error"] for line in others][:3])
        self.figure(f"wrongly routed: {len(wrong)}")
        self.assertEqual([], wrong[:3])
        self.assertEqual([], Leaders(key, self.lab.nodes()).wrong_slots(sampler.lines())[:3])
        self.assert_never_wrong(sampler, socket_goes=True)
        until(self.lab.state_file.exists, 5, "the agent keeps the state file, also once somebody has removed it")

    def restart_for(self, count, chance, what, before=lambda: None):
        closed, to_step = [], []
        for number in range(count):
            ending = time.monotonic()
            self.lab.proxy.end(signal.SIGKILL if number % 2 else signal.SIGTERM)
            gone = time.monotonic()
            before()
            self.lab.proxy.start()
            new = time.monotonic()
            until(lambda: process_and_slots(self.lab.socket)[1] == self.wanted, 10, "HAProxy's slots are in step",
                  every=0.003)
            to_step.append(time.monotonic() - new)
            self.downs.append((ending, gone, new))
            closed.append(new - ending)
            time.sleep(chance.uniform(0.2, 0.2 + PAUSE))
        self.figure(f"{count} restarts {what}: closed for {1000 * max(closed):.0f} ms at most, new socket to slots in step: "
                    f"median {1000 * sorted(to_step)[count // 2]:.1f} ms, longest {1000 * max(to_step):.1f} ms")

    def closed_port(self, line):
        """Refused while no HAProxy listened."""
        return "Connection refused" in line["error"] and any(line["start"] <= new and line["end"] >= ending
                                                             for ending, _, new in self.downs)

    def killed(self, line):
        """A session, or one in the making, of the process that ended."""
        return any(line["start"] <= gone and ending <= line["end"] <= gone + 0.5 for ending, gone, _ in self.downs)


if __name__ == "__main__":
    scenario.main()
