"""What was routed wrongly, held against etcd's leader key as it was seen every 20 ms."""

import math

from lab.haproxy import ask, info_of, parse_slots

SEEN_LATE = 0.1  # seconds: the key is asked for every 20 ms, on a busy machine later
CUT_WITHIN = 0.5  # seconds from the key's change until the old leader's slot has to be out


class Leaders:
    """Who held the leader key when. Where nobody did, the last one still counts: he keeps his slot (R2)."""

    def __init__(self, key, nodes):
        addresses = {node.name: node.address for node in nodes}
        self.terms = []  # (address, from, until)
        for at, name in key.changes:
            if name is None or (self.terms and self.terms[-1][0] == addresses[name]):
                continue
            if self.terms:
                self.terms[-1][2] = at
            self.terms.append([addresses[name], at if self.terms else 0.0, math.inf])

    def held(self, address, since, until):
        """Whether this node was the leader at some moment of these."""
        return any(who == address and begin - SEEN_LATE <= until and end + SEEN_LATE >= since
                   for who, begin, end in self.terms)

    def wrong_writes(self, records):
        """Write connections that anybody but the leader served or refused as read-only."""
        return [line for line in records if line["kind"] in ("write", "kept write", "kept")
                and ("read-only" in (line["error"] or "")
                     or line["kind"] == "write" and line["ok"] and not self.held(line["node"], line["start"], line["end"]))]

    def wrong_slots(self, lines):
        """Slots of the primary pool that became ready for another than the leader, or stayed so."""
        wrong, ready = [], {}
        for line in [line for line in lines if line.get("backend") == "primary"]:
            address = line["address"].partition(":")[0]
            was = ready.pop(line["slot"], None)
            if was and not self.held(was[0], line["t"] - CUT_WITHIN, line["t"]):
                wrong.append(f"{line['slot']} was ready for {was[0]} from {was[1]:.3f} to {line['t']:.3f}")
            if line["state"] == "ready":
                ready[line["slot"]] = (address, line["t"])
                if not self.held(address, line["t"], line["t"]):
                    wrong.append(f"{line['slot']} became ready for {address} at {line['t']:.3f}")
        return wrong


def ready_slots(slots):
    return sorted((slot.backend, slot.address) for slot in slots if slot.ready)


def process_and_slots(path):
    """(process id, its ready slots), of one and the same process; (None, None) where there is no answer."""
    try:
        info, _, dump = ask(path, "show info;show servers state").partition("\n\n")
    except OSError:
        return None, None
    return int(info_of(info)["Pid"]), ready_slots(parse_slots(dump))
