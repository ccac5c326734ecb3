"""kill -9 of the agent and start again, at random moments: nobody notices (R15)."""

import random
import threading
import time

import scenario
from lab import clients, haproxy

KILLS = 50
SHORTEST, LONGEST = 0.01, 1.5  # seconds that one life of the agent lasts


class KilledAgent(scenario.Scenario):
    def test_fifty_kills(self):
        clients.create_ledger(self.lab.leader())
        sampler = self.sample()
        load = self.clients()
        load.wait_served("write", self.lab.leader(), 0, 20)
        self.lab.wait_settled()
        before = self.slots()

        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        lives = []
        for number in range(KILLS):
            self.lab.processes.kill("pointsman")
            lives.append(self.lab.folder / f"pointsman.{number + 1}.log")
            self.lab.start_agent(lives[-1])
            time.sleep(chance.uniform(SHORTEST, LONGEST))
        time.sleep(5)  # the last life is long enough for every probe and a full read of etcd
        self.assertTrue(self.lab.processes.pid("pointsman"), "the last life goes on")
        after = self.slots()

        load.stop()
        self.figure(f"{KILLS} kills, seed {seed}")
        self.assert_untouched(self.seen(load, "write", "writers"))
        self.assert_untouched(self.seen(load, "read", "readers"))
        self.assertEqual([], [line for line in load.records() if line["kind"] == "kept" and not line["ok"]])
        sent = [line for log in lives for line in self.commands(log)]
        self.figure(f"commands sent by the {KILLS} adopting starts: {len(sent)}")
        self.assertEqual([], sent[:5])
        self.assertEqual(before, after)
        self.assert_never_wrong(sampler)

    def test_kills_during_a_switchover(self):
        clients.create_ledger(self.lab.leader())
        sampler = self.sample()
        load = self.clients()
        leader = self.lab.wait_writable()
        load.wait_served("write", leader, 0, 20)
        target = next(node for node in self.lab.nodes() if node.name != leader.name)
        chance = random.Random()
        switching = threading.Thread(target=self.lab.switchover, args=(target,))
        switching.start()
        kills = 0
        while switching.is_alive():
            self.lab.processes.kill("pointsman")
            self.lab.start_agent(self.lab.folder / f"pointsman.s{kills}.log")
            kills += 1
            time.sleep(chance.uniform(SHORTEST, 0.4))
        self.lab.wait_in_step(30)
        load.wait_served("write", target, 0, 30)
        load.stop()
        self.figure(f"{kills} kills during one switchover")
        self.seen(load, "write", "writers")
        self.assert_never_wrong(sampler)

    def slots(self):
        """Everything of the slots that a command could change."""
        return [(slot.backend, slot.name, slot.address, slot.state, slot.weight)
                for slot in haproxy.slots(self.lab.socket)]


if __name__ == "__main__":
    scenario.main()
