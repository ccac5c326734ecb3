"""The cluster under test: three etcd members, Patroni nodes, HAProxy with a master process, the agent without privileges.

All of them speak over loopback, each from an address of its own: what a process sends is given its address by the group
that it runs in, so that a network fault is a pair of addresses.
"""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

from lab import clients, cluster, haproxy
from lab.processes import family, signal_pid
from lab.proxy import MASTER
from lab.wait import Late, until

NETWORK = "127.0.57"
NODES = 4  # the last one joins and leaves
AGENT_UID = 20500
UNPRIVILEGED = ["setpriv", f"--reuid={AGENT_UID}", "--regid=haproxy", "--clear-groups", "--no-new-privs",
                "--bounding-set=-all", "--inh-caps=-all", "--"]
FIRST_GID = 20001  # node1's group; each has one of its own
MEMBERS = 3  # of etcd

ADDRESSES = """\
table ip chaos {{
  chain name {{ type nat hook postrouting priority srcnat; policy accept;
    ip saddr 127.0.0.1 meta skuid {agent} snat to {address}
{rows}
  }}
  chain cut {{ }}
  chain sent {{ type filter hook output priority raw; policy accept; jump cut; }}
  chain arrived {{ type filter hook prerouting priority raw; policy accept; jump cut; }}
}}
"""


def encode(text):
    return base64.b64encode(text.encode()).decode()


def decode(text):
    return base64.b64decode(text).decode(errors="replace")


class Cluster(cluster.Lab):
    def __init__(self, folder, pointsman):
        folder.mkdir(mode=0o755)
        super().__init__(folder, NETWORK, pointsman, cluster.FAST, die_with_parent=False, etcd_members=MEMBERS)
        self.pointsman = shutil.copy(pointsman, self.folder)  # as it is now, though it be built anew meanwhile
        self.proxy.way = MASTER
        self.master_socket = self.proxy.master_socket
        self.state_folder = self.folder / "state"
        self.state_file = self.state_folder / "haproxy.state"
        self.members = list(self.etcd_addresses)
        self.addresses = {f"node{number}": f"{NETWORK}.{number}" for number in range(1, NODES + 1)} | self.etcd_addresses
        self.processes.groups = {name: FIRST_GID + number for number, name in enumerate(self.addresses)}
        self.processes.groups["haproxy"] = "haproxy"
        self.lives = 0  # of the agent
        self.reloads = []  # when a new worker had the socket
        self.away = []  # [begin, end or None, address] of nodes that the agent or HAProxy could not reach

    # The network

    def name_addresses(self):
        rows = [f"    ip saddr 127.0.0.1 meta skgid {self.processes.groups[name]} snat to {address}"
                for name, address in self.addresses.items()]
        rows.append(f"    ip saddr 127.0.0.1 tcp dport {{ 5432, 8008 }} meta skgid haproxy snat to {self.proxy_address}")
        text = ADDRESSES.format(agent=AGENT_UID, address=self.agent_address, rows="\n".join(rows))
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

    @property
    def agent_address(self):
        return f"{NETWORK}.201"

    @property
    def all_etcd(self):
        return list(self.etcd_addresses.values())

    def cut(self, some, others):
        """No packet passes between the one side and the other until heal()."""
        for a in some:
            for b in others:
                if a != b:
                    if b in (self.agent_address, self.proxy_address):
                        self.away.append([time.monotonic(), None, a])
                    if a in (self.agent_address, self.proxy_address):
                        self.away.append([time.monotonic(), None, b])
                    self.drop(f"ip saddr {a} ip daddr {b}")
                    self.drop(f"ip saddr {b} ip daddr {a}")

    def lose(self, *some):
        """A fifth of these packets is lost until heal()."""
        for what in some:
            self.drop(f"{what} numgen random mod 100 < 20")
        self.away += [[time.monotonic(), None, node.address] for node in self.nodes()]

    def drop(self, what):
        subprocess.run(["nft", f"add rule ip chaos cut {what} drop"], check=True)

    def heal(self):
        subprocess.run(["nft", "flush chain ip chaos cut"], check=True)
        for row in self.away:
            row[1] = row[1] or time.monotonic()

    # etcd and Patroni

    def compact(self):
        revision = self.etcd.post("/v3/kv/range", {"key": encode("/")})["header"]["revision"]
        self.etcd.post("/v3/kv/compaction", {"revision": revision, "physical": True})

    def delete_all(self, prefix):
        """Every key that begins with it; it ends with a slash."""
        self.etcd.post("/v3/kv/deleterange", {"key": encode(prefix), "range_end": encode(prefix[:-1] + "0")})

    def start_node(self, number, fake_clock=None):
        node = self.node(number)
        if not fake_clock:
            return super().start_node(number)
        self._configure(node)
        self.processes.start(node.name, [*faked(fake_clock), "/usr/bin/patroni", node.file],
                             self.folder / f"{node.name}.log", "postgres")
        return node

    def _configure(self, node):
        super()._configure(node)
        settings = json.loads(node.file.read_text())
        settings["bootstrap"]["dcs"]["synchronous_mode"] = True
        node.file.write_text(json.dumps(settings, indent=2) + "\n")

    def number(self, node):
        return int(node.name[4:])

    def replicas(self):
        leader = self.leader()
        return [node for node in self.running_nodes() if leader is None or node.name != leader.name]

    def leader(self):
        try:
            return super().leader()
        except OSError:
            return None

    def synchronous(self):
        """The sync key: {"leader": name, "sync_standby": names or None}."""
        return json.loads(self.etcd.get(self.key("sync")) or "{}")

    def signal_postgres(self, node, number):
        postmaster = node.postmaster()
        if postmaster:
            for pid in family(postmaster):
                signal_pid(pid, number)

    # HAProxy

    def prepare_haproxy(self):
        self.state_folder.mkdir(mode=0o755)
        # Small and of its own, so that it can be filled up.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "state", self.state_folder], check=True)
        os.chown(self.state_folder, AGENT_UID, -1)

    def start_haproxy(self):
        self.write_settings()
        # As on a host: the workers are the user haproxy's, and the agent reaches both sockets by its group.
        self.proxy.file.write_text(haproxy.configuration(self.pointsman, self.settings)
                                   + "\nglobal\n    user haproxy\n    group haproxy\n")
        command = ["/usr/sbin/haproxy", "-W", "-f", self.proxy.file, "-db", "-S",
                   f"{self.master_socket},mode,660,group,haproxy,level,admin"]
        self.processes.start("haproxy", command, self.proxy.log)
        until(self.port_open, 10, "HAProxy's port is open", every=0.005)

    def port_open(self):
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.proxy_address, 5000)) == 0

    def worker(self):
        """The process id of the worker that has the socket, or None."""
        identity = self.proxy.identity()
        return identity and identity[0]

    def reload(self):
        """As systemd does it; back when a new worker has the socket."""
        before = self.worker()
        self.proxy.reload()
        until(lambda: self.worker() not in (None, before), 20, "a new worker has HAProxy's socket", every=0.02)
        self.reloads.append(time.monotonic())

    # The agent

    def start_agent(self, log=None, fake_clock=None):
        self.lives += 1
        command = [*UNPRIVILEGED, *faked(fake_clock), self.pointsman, "run", "--config", self.settings]
        self.processes.start("pointsman", command, log or self.agent_log)

    def release(self):
        """What systemd does when the agent has ended."""
        subprocess.run([*UNPRIVILEGED, self.pointsman, "release", "--config", self.settings], timeout=20, check=False)

    def status(self):
        """The agent's resident memory in bytes and its number of open files; None where it does not run."""
        pid = self.processes.pid("pointsman")
        try:
            text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            resident = next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("VmRSS"))
            return resident, len(os.listdir(f"/proc/{pid}/fd"))
        except (OSError, StopIteration):
            return None

    # All of it

    def start(self, nodes, etcd_options=(), etcd_password=None):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self.name_addresses()
        self.prepare_haproxy()
        super().start(nodes, ("--max-request-bytes", str(4 << 20)))
        self.wait_synchronous()

    def wait_synchronous(self, seconds=60):
        until(lambda: self.synchronous().get("sync_standby"), seconds, "a standby is synchronous", every=0.2)

    def wait_whole(self, seconds):
        """Everything runs, every node streams, one standby is synchronous, and HAProxy is in step. Returns the nodes that
        had to be made anew: Patroni 3.0.2 lets a node be that follows a timeline of its own; and it leaves the `sync` key
        to an operator, see waits_for_a_standby()."""
        deadline = time.monotonic() + seconds

        def left():
            return max(1.0, deadline - time.monotonic())

        until(self.etcd.healthy, left(), "every member of etcd is healthy", every=0.2)
        until(self.writable_leader, left(), "a leader takes writes", every=0.1)
        anew = self.wait_complete(patience=90, seconds=left())
        try:
            until(self.waits_for_a_standby, min(20, left()), "the leader waits for a standby", every=0.1)
        except Late:
            self.etcd.delete(self.key("sync"))
            anew.append("the sync key")
            until(self.waits_for_a_standby, left(), "the leader waits for a standby, with a new sync key", every=0.1)
        until(self.in_step, left(), "HAProxy's slots are in step", every=0.1)
        return anew

    def waits_for_a_standby(self):
        """Both in etcd and in PostgreSQL. A Patroni that was started anew beside its running leader empties
        synchronous_standby_names and leaves it so, whatever the `sync` key says; a leader that stood still, lost its key
        and took it back at once never claims the `sync` key again (3.0.2). A deleted key helps in both cases."""
        query = "SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'"
        with contextlib.suppress(OSError, ValueError, clients.psycopg2.Error):
            sync, leader = self.synchronous(), self.writable_leader()
            return (leader and sync.get("leader") == leader.name and sync.get("sync_standby")
                    and clients.execute(leader, query)[0][0])
        return False


def faked(clock):
    """A file whose text is the offset of the wall clock, for libfaketime; the monotonic clock stays as it is."""
    return ["env", f"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"] if clock else []
