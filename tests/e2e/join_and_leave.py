"""A member that joins is served soon; one that leaves costs nothing when it is announced and little when it is not."""

import time

import scenario
from lab import clients, haproxy
from lab.wait import until

SERVED_WITHIN = 2.0  # seconds from the first /replica 200
PROBE_PERIOD = 2.0  # seconds: the probe's interval and its timeout


class JoinAndLeave(scenario.Scenario):
    def test_join_leave_and_reuse(self):
        clients.create_ledger(self.lab.leader())
        sampler = self.sample()
        load = self.clients(readers=3, kept=0)

        fourth = self.join(4, load)
        its_slot = self.slot_of(fourth)
        self.leave_announced(fourth, load, sampler)

        fifth = self.join(5, load)
        self.assertEqual(its_slot, self.slot_of(fifth))
        self.figure(f"slot {its_slot} of {fourth.name} was given to {fifth.name}")
        self.leave_unannounced(fifth, load, sampler)

        load.stop()
        self.assert_untouched(self.seen(load, "write", "writers, all the time"))
        clients.wait_rows(self.lab.leader(), clients.acknowledged(load.records()))
        self.assert_never_wrong(sampler)

    def join(self, number, load):
        begun = time.monotonic()
        node = self.lab.start_node(number)
        took = self.served_after_yes(node, load, begun)
        self.figure(f"joined: {node.name} served {took:.2f} s after its first /replica 200")
        self.assertLess(took, SERVED_WITHIN)
        self.assert_untouched(self.seen(load, "read", "readers while it joined", begun))
        self.lab.wait_streaming(node)
        return node

    def leave_announced(self, node, load, sampler):
        begun = time.monotonic()
        self.lab.set_noloadbalance(node, True)
        out = sampler.wait_out("replicas", node, begun)
        self.figure(f"left: out of service {out - begun:.2f} s after noloadbalance was set")
        # Nobody cuts a reader that is still at work.
        until(lambda: haproxy.sessions(self.lab.socket, f"{node.address}:5432") == 0, 30,
              f"the last reader of {node.name} is done")
        self.lab.stop_node(node)
        self.wait_forgotten(node)
        self.assert_untouched(self.seen(load, "read", "readers while it left, announced", begun))

    def leave_unannounced(self, node, load, sampler):
        begun = time.monotonic()
        self.lab.stop_node(node)
        out = sampler.wait_out("replicas", node, begun)
        self.wait_forgotten(node)
        seen = self.seen(load, "read", "readers while it left, unannounced", begun)
        late = [line for line in seen.failures if line["start"] > begun + PROBE_PERIOD]
        self.figure(f"stopped: out of service {out - begun:.2f} s after the start of its shutdown, "
                    f"{len(seen.failures)} readers failed")
        self.assertEqual([], late)
        self.assertLess(out - begun, PROBE_PERIOD)

    def wait_forgotten(self, node):
        until(lambda: node.name not in [row["member"] for row in self.lab.slots()], 60,
              f"the slots of {node.name} are free", every=0.2)

    def slot_of(self, node):
        return next(slot.name for slot in haproxy.slots(self.lab.socket)
                    if slot.backend == "replicas" and slot.address == f"{node.address}:5432" and slot.ready)


if __name__ == "__main__":
    scenario.main()
