"""HAProxy's slots, asked every few milliseconds by a process of its own: what changed when, and what must never be.

As a program:  sampler.py SOCKET PERIOD ADDRESS...   writes one JSON object a line until its standard input ends:
  {"t":..., "backend":..., "slot":..., "address":..., "state":...}   a slot that changed, and every slot at the start
  {"violation":..., "t":..., "rows":[...]}
  {"samples":..., "longest_gap":...}                                 the last line
ADDRESS are the nodes' addresses, host:port, that a ready slot may have.
"""

import json
import pathlib
import select
import subprocess
import sys
import time

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lab import haproxy
from lab.wait import until


def violations(slots, before, known):
    """What is wrong with this sample; `before` maps a slot to what it was one sample ago."""
    ready = [slot for slot in slots if slot.ready]
    primary = [slot for slot in ready if slot.backend == "primary"]
    if len(primary) > 1:
        yield "two ready slots in the primary pool"
    for slot in ready:
        if slot.address not in known:
            yield f"{slot.backend}/{slot.name} is ready with {slot.address}, no node's address"
        last = before.get((slot.backend, slot.name))
        if last and last.ready and last.address != slot.address:
            yield f"{slot.backend}/{slot.name} went from {last.address} to {slot.address} while ready"
    addresses = [(slot.backend, slot.address) for slot in ready]
    for twice in {pair for pair in addresses if addresses.count(pair) > 1}:
        yield f"two ready slots of {twice[0]} with address {twice[1]}"


def emit(message):
    print(json.dumps(message), flush=True)


def main(socket, period, known):
    before, samples, longest_gap, last_time = {}, 0, 0.0, None
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0, due - time.monotonic()))[0]:
        now = time.monotonic()
        due = max(due + period, now)
        try:
            slots = haproxy.slots(socket)
        except OSError as error:
            emit({"violation": f"HAProxy's socket: {error}", "t": now, "rows": []})
            before = {}  # what answers next may be another process
            time.sleep(0.1)
            continue
        for text in violations(slots, before, known):
            emit({"violation": text, "t": now, "rows": [str(slot) for slot in slots if slot.ready]})
        for slot in slots:
            last = before.get((slot.backend, slot.name))
            if not last or (last.state, last.address) != (slot.state, slot.address):
                emit({"t": now, "backend": slot.backend, "slot": slot.name, "address": slot.address,
                      "state": slot.state})
        before = {(slot.backend, slot.name): slot for slot in slots}
        samples += 1
        longest_gap = max(longest_gap, now - last_time) if last_time else 0.0
        last_time = now
    emit({"samples": samples, "longest_gap": longest_gap})


class Sampler:
    """The program above, started and read by the driver."""

    def __init__(self, lab, period=0.005, nodes=9):
        self.file = lab.folder / "sampler.jsonl"
        known = [f"{lab.network}.{number}:5432" for number in range(1, nodes + 1)]
        with open(self.file, "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-B", __file__, str(lab.socket), str(period), *known],
                stdin=subprocess.PIPE, stdout=output, start_new_session=True)

    def lines(self):
        text = self.file.read_text()
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]

    def violations(self):
        return [line for line in self.lines() if "violation" in line]

    def changed(self, backend, address, states, since):
        """When a slot of the backend with this address first came to one of these states after `since`, or None."""
        return next((line["t"] for line in self.lines() if line.get("backend") == backend and line["t"] >= since
                     and line["address"] == address and line["state"] in states), None)

    def wait_ready(self, backend, node, since, seconds=30):
        return until(lambda: self.changed(backend, f"{node.address}:5432", ["ready"], since), seconds,
                     f"the slot of {node.name} in {backend} is ready")

    def wait_out(self, backend, node, since, seconds=30):
        return until(lambda: self.changed(backend, f"{node.address}:5432", ["drain", "maint"], since), seconds,
                     f"the slot of {node.name} in {backend} is out of service")

    def stop(self):
        """Ends it and returns its last line. Safe to repeat."""
        self.process.communicate(timeout=10)
        return self.lines()[-1]


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), set(sys.argv[3:]))
