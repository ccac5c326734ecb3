"""Plays the members of many Patroni clusters: their REST APIs, and the ports of their PostgreSQL.

As a program:  members.py CLUSTERS NETWORK...   listens on four addresses for each cluster (see `address`), ports 8008
and 5432. It reads one JSON object a line from its standard input and answers each with a line that has the time
(CLOCK_MONOTONIC) from which it is in force:
  {"cluster":..., "leader": NUMBER or null, "timeline":...}
  {"cluster":..., "mode": "well"|"hung"|"endless"|"gone"}

The HTTP is written by hand: a thousand requests a second must leave the processor to what is measured.
"""

import asyncio
import json
import resource
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
    body = {"state": "running", "role": "master" if is_leader else "replica", "server_version": 150018, "timeline": timeline,
            "xlog": {"location": 67108864} if is_leader else
            {"received_location": 67108864, "replayed_location": 67108864, "replayed_timestamp": None, "paused": False},
            "patroni": {"version": "3.0.2", "scope": "bench"}}
    return b"HTTP/1.0 " + status + b"\r\nContent-Type: application/json\r\n\r\n" + json.dumps(body).encode()


class Cluster:
    def __init__(self):
        self.mode = "well"
        self.lead(0, 1)

    def lead(self, leader, timeline):
        self.leader = leader
        self.answers = {(is_leader, asked): answer(is_leader, asked, timeline)
                        for is_leader in (False, True) for asked in (False, True)}


class Rest(asyncio.Protocol):
    def __init__(self, cluster, member):
        self.cluster, self.member = cluster, member
        self.transport = None
        self.pouring = False

    def connection_made(self, transport):
        self.transport = transport
        if self.cluster.mode == "gone":
            transport.abort()

    def data_received(self, request):
        mode = self.cluster.mode
        if mode == "well":
            asked_for_leader = request.split(b" ", 2)[1] == b"/master"
            self.transport.write(self.cluster.answers[self.member == self.cluster.leader, asked_for_leader])
            self.transport.close()
        elif mode == "endless":
            self.transport.write(b'HTTP/1.0 200 OK\r\n\r\n{"state": "')
            self.pouring = True
            self.pour()

    def pour(self):
        if self.pouring and not self.transport.is_closing():
            self.transport.write(FILLER)
            if self.pouring:
                asyncio.get_running_loop().call_soon(self.pour)

    def pause_writing(self):
        self.pouring = False

    def resume_writing(self):
        self.pouring = True
        self.pour()

    def connection_lost(self, _error):
        self.pouring = False


class Postgres(asyncio.Protocol):
    def __init__(self, cluster):
        self.cluster = cluster

    def connection_made(self, transport):
        if self.cluster.mode == "gone":
            transport.abort()


async def serve(count, networks):
    loop = asyncio.get_running_loop()
    clusters = [Cluster() for _ in range(count)]
    for number, cluster in enumerate(clusters):
        for member in range(MEMBERS):
            host = address(networks, number, member)
            await loop.create_server(lambda c=cluster, m=member: Rest(c, m), host, 8008)
            await loop.create_server(lambda c=cluster: Postgres(c), host, 5432)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print(time.monotonic(), flush=True)
    while line := await orders.readline():
        order = json.loads(line)
        cluster = clusters[order["cluster"]]
        if "mode" in order:
            cluster.mode = order["mode"]
        else:
            cluster.lead(order["leader"], order["timeline"])
        print(time.monotonic(), flush=True)


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
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2:]))
