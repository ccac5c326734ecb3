"""HAProxy reloaded a hundred times, half with -sf and half by its master, under clients that open connections all the time
and through two switchovers (R8).

POINTSMAN_E2E_RELOADS is how many, instead of a hundred."""

import os
import random
import threading
import time

import scenario
from lab import clients, proxy
from lab.observer import leader_key
from lab.wait import until
from routing import Leaders, process_and_slots

RELOADS = int(os.environ.get("POINTSMAN_E2E_RELOADS", "100"))
PERIOD = 0.02  # seconds from one connection of a client to its next
PAUSE = 0.3  # seconds between reloads, at most


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
        count, sent = RELOADS // 2, len(self.commands())
        self.reload_for(count // 2, chance)
        at_rest = len(self.commands()) - sent
        switched = self.switch_under_reloads(chance)
        sent = len(self.commands())
        self.reload_for(count - len(self.steady) - self.during, chance)
        at_rest += len(self.commands()) - sent

        load.stop()
        key.stop()
        self.report(load)
        self.figure(f"commands sent in the {len(self.steady)} reloads of a cluster at rest: {at_rest}")
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
            slots = until(lambda: process_and_slots(self.lab.socket)[1], 10, "HAProxy tells its slots")
            self.steady.append(self.reload(slots))
            time.sleep(chance.uniform(0, PAUSE))

    def reload(self, wanted):
        """Seconds from the request to the new process, and from there to its slots in step; waits for no slots where
        `wanted` is None."""
        before = until(self.lab.proxy.identity, 10, "HAProxy answers")[0]
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
        self.lab.wait_streaming(old)
        self.lab.wait_in_step(30)
        return begun, time.monotonic()

    def report(self, load):
        for what, times in zip(("request to new process", "new process to slots in step"), zip(*self.steady)):
            middle = sorted(times)[len(times) // 2]
            self.figure(f"{len(times)} reloads, {what}: median {1000 * middle:.1f} ms, longest {1000 * max(times):.1f} ms")
        records = [line for line in load.records() if line["kind"] in ("write", "read")]
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


if __name__ == "__main__":
    scenario.main()
