"""HAProxy's stats socket, read-only."""

import csv
import pathlib
import socket
import subprocess
from dataclasses import dataclass

MAINT, DRAIN = 0x23, 0x18  # bits of srv_admin_state; 0x04 only marks `disabled` in the configuration


@dataclass(frozen=True)
class Slot:
    backend: str
    name: str
    address: str
    state: str  # ready, drain or maint
    weight: int
    since_change: int  # seconds

    @property
    def ready(self):
        return self.state == "ready"


def ask(path, command):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(2)
        connection.connect(str(path))
        connection.sendall(command.encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)  # the master's socket waits for more otherwise
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts).decode()


def configuration(pointsman, settings, *options):
    """What `pointsman haproxy-config` prints for these settings, with the hold.lua of this tree."""
    printed = subprocess.run([pointsman, "haproxy-config", *options, "--config", settings], capture_output=True, text=True,
                             timeout=30, check=True).stdout
    return printed.replace("/etc/pointsman/hold.lua", str(pathlib.Path(__file__).resolve().parent.parent / "hold.lua"))


def slots(path):
    """Every slot, as `show servers state` has it, without the servers that hold connections."""
    return parse_slots(ask(path, "show servers state"))


def parse_slots(dump):
    if not dump.endswith("\n\n"):
        raise ConnectionError("HAProxy's answer was cut")
    rows = [parse_row(row.split()) for row in dump.splitlines()[2:] if row]
    return [slot for slot in rows if slot.name not in ("hold", "self")]


def parse_row(field):
    admin = int(field[6])
    state = "maint" if admin & MAINT else "drain" if admin & DRAIN else "ready"
    return Slot(backend=field[1], name=field[3], address=f"{field[4]}:{field[18]}", state=state,
                weight=int(field[7]), since_change=int(field[9]))


def sessions(path, address):
    """How many sessions HAProxy has with this address, in every pool."""
    rows = list(csv.DictReader(ask(path, "show stat").lstrip("# ").splitlines()))
    return sum(int(row["scur"]) for row in rows if row["addr"] == address)


def info(path):
    """`show info` as a dictionary."""
    return info_of(ask(path, "show info"))


def info_of(text):
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


def identity(path):
    """What a reload or a restart would change."""
    known = info(path)
    return int(known["Pid"]), int(known["Start_time_sec"])
