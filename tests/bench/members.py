"""Plays the members of many Patroni clusters: their REST APIs, and the ports of their PostgreSQL.

As a program:  members.py CLUSTERS NETWORK...   listens on four addresses for each cluster (see `address`), ports 8008
and 5432. It reads one JSON object a line from its standard input and answers each with a line that has the time
(CLOCK_MONOTONIC) from which it is in force:
  {"cluster":..., "leader": NUMBER or null, "timeline":...}
  {"cluster":..., "mode": "well"|"hung"|"endless"|"gone"}

HTTP and loop are written by hand: a thousand requests a second must leave the processor to what is measured.
"""

import json
import os
import resource
import select
import socket
import subprocess
import sys
import time

MEMBERS = 4
FILLER = b"x" * 65536


def address(networks, cluster, member):
    """Two hundred addresses of each network."""
    index = cluster * MEMBERS + member
    return f"{networks[index // 200]}.{1 + index % 200}"


def answer(is_leader, asked_for_leader, timeline):
    status = b"200 OK" if is_leader == asked_for_leader else b"503 Service Unavailable"
    wal = {"location": 67108864} if is_leader else {"received_location": 67108864, "replayed_location": 67108864,
                                                    "replayed_timestamp": None, "paused": False}
    body = {"state": "running", "role": "master" if is_leader else "replica", "server_version": 150018,
            "timeline": timeline, "xlog": wal, "patroni": {"version": "3.0.2", "scope": "bench"}}
    return b"HTTP/1.0 " + status + b"\r\nContent-Type: application/json\r\n\r\n" + json.dumps(body).encode()


class Cluster:
    def __init__(self):
        self.mode = "well"
        self.lead(0, 1)

    def lead(self, leader, timeline):
        self.leader = leader
        self.answers = {(is_leader, asked): answer(is_leader, asked, timeline)
                        for is_leader in (False, True) for asked in (False, True)}


class Program:
    def __init__(self, count, networks):
        self.clusters = [Cluster() for _ in range(count)]
        self.networks = networks
        self.poll = select.epoll()
        self.listeners = {}  # by file number: (socket, cluster, member, port)
        self.sessions = {}  # those that are not over at once: (socket, cluster, member)
        for number in range(count):
            self.listen(number)

    def listen(self, number):
        for member in range(MEMBERS):
            for port in (8008, 5432):
                listener = socket.create_server((address(self.networks, number, member), port), backlog=128)
                listener.setblocking(False)
                if port == 8008:  # mostly, the request is there with the connection
                    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
                self.listeners[listener.fileno()] = (listener, number, member, port)
                self.poll.register(listener, select.EPOLLIN)

    def refuse(self, number):
        for key, (listener, owner, _, _) in list(self.listeners.items()):
            if owner == number:
                del self.listeners[key]
                listener.close()

    def run(self):
        self.poll.register(0, select.EPOLLIN)
        self.answer_order()
        while True:
            for number, events in self.poll.poll():
                if number in self.listeners:
                    self.accept(*self.listeners[number])
                elif number in self.sessions:
                    self.go_on(number, events)
                elif number == 0 and not self.order():
                    return

    def order(self):
        """An order is one line, and the next comes when it is answered."""
        line = os.read(0, 65536)
        if line:
            order = json.loads(line)
            cluster = self.clusters[order["cluster"]]
            if "mode" not in order:
                cluster.lead(order["leader"], order["timeline"])
            elif order["mode"] != cluster.mode:
                if order["mode"] == "gone":
                    self.refuse(order["cluster"])
                elif cluster.mode == "gone":
                    self.listen(order["cluster"])
                cluster.mode = order["mode"]
            self.answer_order()
        return line

    @staticmethod
    def answer_order():
        print(time.monotonic(), flush=True)

    def accept(self, listener, number, member, port):
        try:
            session, _ = listener.accept()
        except OSError:
            return
        if port == 5432:
            session.close()
            return
        session.setblocking(False)
        self.sessions[session.fileno()] = (session, number, member)
        if not self.serve(session, number, member):
            self.wait_for(session, select.EPOLLIN)

    def wait_for(self, session, what):
        try:
            self.poll.modify(session, what)
        except FileNotFoundError:
            self.poll.register(session, what)

    def go_on(self, key, events):
        session, number, member = self.sessions[key]
        if events & select.EPOLLOUT:
            try:
                session.send(FILLER)
            except OSError:
                self.close(session)
        else:
            self.serve(session, number, member)

    def serve(self, session, number, member):
        """Whether nothing is left to be waited for on this connection."""
        cluster = self.clusters[number]
        try:
            request = session.recv(4096)
            if request and cluster.mode == "well":
                asked_for_leader = request.split(b" ", 2)[1] == b"/master"
                session.send(cluster.answers[member == cluster.leader, asked_for_leader])
            elif request and cluster.mode == "endless":
                session.send(b'HTTP/1.0 200 OK\r\n\r\n{"state": "')
                self.wait_for(session, select.EPOLLOUT)
                return True
            elif request:
                return False
        except BlockingIOError:
            return False
        except OSError:
            pass
        self.close(session)
        return True

    def close(self, session):
        del self.sessions[session.fileno()]
        session.close()


class Members:
    """The program above, started and told what to play."""

    def __init__(self, count, networks):
        self.process = subprocess.Popen([sys.executable, "-B", __file__, str(count), *networks], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        self.process.stdout.readline()

    def tell(self, cluster, **order):
        """Returns the time from which it is so."""
        self.process.stdin.write(json.dumps({"cluster": cluster, **order}) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def stop(self):
        self.process.kill()
        self.process.communicate()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Program(int(sys.argv[1]), sys.argv[2:]).run()
