"""Two nodes, so that now and then there is no replica: readers notice neither a switchover nor a replica that leaves."""

import time

import scenario
from lab import clients, haproxy
from lab.wait import until

INTERVAL = 1.0  # seconds: of the probes
SERVED = 0.3  # seconds: from a ready slot to the end of a read, readers coming every 0.1 s


class Readers(scenario.Scenario):
    nodes = 2

    def test_without_replicas(self):
        clients.create_ledger(self.lab.leader())
        load = self.clients(writers=1, readers=4, kept=0)
        self.switchover(load)
        self.leaves(load)
        self.comes_back(load)
        load.stop()
        self.assert_untouched(self.seen(load, "read", "readers"))
        self.assert_untouched(self.seen(load, "write", "writers"))

    def switchover(self, load):
        old = self.lab.wait_writable()
        new = next(node for node in self.lab.nodes() if node.name != old.name)
        begun = self.lab.switchover(new)
        load.wait_served("read", new, begun, 30)
        self.comes_in(load, old, begun, "the demoted leader")

    def leaves(self, load):
        replica = self.replica()
        begun = time.monotonic()
        self.lab.set_noloadbalance(replica, True)
        until(lambda: not replica.fit_replica(), 10, f"{replica.name} says that it is to be left alone", every=0.02)
        until(self.lab.in_step, 20, "the reads have moved to the leader", every=0.02)
        until(lambda: haproxy.sessions(self.lab.socket, f"{replica.address}:5432") == 0, 30,
              f"the last reader of {replica.name} is done")
        self.lab.stop_node(replica)
        load.wait_served("read", self.lab.wait_writable(), begun, 20)

    def comes_back(self, load):
        replica = next(node for node in self.lab.nodes() if not self.lab.processes.pid(node.name))
        begun = time.monotonic()
        self.lab.start_node(int(replica.name[4:]))
        self.comes_in(load, replica, begun, "the replica that was stopped")

    def comes_in(self, load, node, since, what):
        took = self.served_after_yes(node, load, since)
        self.figure(f"{what} served reads {took:.2f} s after it said yes")
        self.assertLess(took, INTERVAL + SERVED)
        self.lab.wait_in_step(20)

    def replica(self):
        leader = self.lab.wait_writable()
        return next(node for node in self.lab.nodes() if node.name != leader.name)


if __name__ == "__main__":
    scenario.main()
