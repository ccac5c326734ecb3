"""HAProxy stopped or killed and started again, under clients (R8): with the state file, without the agent, and without the
state file."""

import random
import signal
import time

import scenario
from lab import clients
from lab.observer import leader_key
from lab.wait import until
from routing import Leaders, process_and_slots

PERIOD = 0.02  # seconds from one connection of a client to its next
SHORTEST, LONGEST = 0.2, 0.5  # seconds between restarts


class Restarts(scenario.Scenario):
    def test_restarts(self):
        leader = self.lab.leader()
        clients.create_ledger(leader)
        key = leader_key(self.lab)
        self.addCleanup(key.stop)
        sampler = self.sample()
        load = self.clients(writers=4, readers=2, kept=2, period=PERIOD)
        load.wait_served("write", leader, 0, 20)
        until(self.lab.state_file.exists, 5, "the agent keeps the state file")
        self.lab.wait_settled()
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
            time.sleep(chance.uniform(SHORTEST, LONGEST))
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
