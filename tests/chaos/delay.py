"""Packets that take longer: the kernel hands them over (NFQUEUE), and gets its verdict when their time has come."""

import contextlib
import heapq
import socket
import struct
import subprocess
import threading
import time

NETLINK_NETFILTER = 12
QUEUE = 3 << 8  # NFNL_SUBSYS_QUEUE
PACKET, VERDICT, CONFIG = QUEUE | 0, QUEUE | 1, QUEUE | 2
NUMBER = 7  # of the queue
ACCEPT = 1


def _message(kind, attributes):
    body = struct.pack("!BBH", 0, 0, NUMBER)
    for number, value in attributes:
        body += struct.pack("HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
    return struct.pack("IHHII", 16 + len(body), kind, 1, 0, 0) + body


def _packet_id(message):
    """The id in a packet's NFQA_PACKET_HDR, or None."""
    at = 20
    while at + 4 <= len(message):
        size, number = struct.unpack_from("HH", message, at)
        if number & 0x7FFF == 1:
            return struct.unpack_from("!I", message, at + 4)[0]
        at += (max(size, 4) + 3) & ~3
    return None


class Delay:
    """Every packet from or to one of these addresses arrives so many seconds late."""

    def __init__(self, addresses, seconds):
        self.addresses = addresses
        self.seconds = seconds
        self.ending = threading.Event()
        self.held = []
        self.netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self.netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.netlink.bind((0, 0))
        self.netlink.sendall(_message(CONFIG, [(1, struct.pack("!BBH", 1, 0, socket.AF_INET))]))  # bind
        self.netlink.sendall(_message(CONFIG, [(2, struct.pack("!IB", 0, 1))]))  # copy no payload
        self.netlink.sendall(_message(CONFIG, [(3, struct.pack("!I", 65535))]))  # length of the queue
        self.netlink.settimeout(0.01)
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        self._rules("-A")
        return self

    def __exit__(self, *_):
        self._rules("-D")
        self.ending.set()
        self.thread.join(5)
        self.netlink.close()

    def _rules(self, what):
        for address in self.addresses:
            for side in ("-s", "-d"):
                subprocess.run(["iptables", "-w", "-t", "mangle", what, "PREROUTING", side, address, "-j", "NFQUEUE",
                                "--queue-num", str(NUMBER), "--queue-bypass"], check=True)

    def _run(self):
        while not self.ending.is_set() or self.held:
            with contextlib.suppress(TimeoutError, BlockingIOError):
                self._take(self.netlink.recv(65536))
            self._let_go()

    def _take(self, data):
        while len(data) >= 16:
            size, kind = struct.unpack_from("IH", data)
            number = _packet_id(data[:size]) if kind == PACKET else None
            if number is not None:
                heapq.heappush(self.held, (time.monotonic() + self.seconds, number))
            data = data[(max(size, 16) + 3) & ~3:]

    def _let_go(self):
        now = time.monotonic()
        while self.held and (self.held[0][0] <= now or self.ending.is_set()):
            _, number = heapq.heappop(self.held)
            self.netlink.sendall(_message(VERDICT, [(2, struct.pack("!II", ACCEPT, number))]))
