"""The cluster under test: three etcd members, Patroni nodes, HAProxy with a master process, the agent without privileges.

All of them speak over loopback, each from an address of its own: what a process sends is given its address by the group
that it runs in, so that a network fault is a pair of addresses.
"""

import base64
import contextlib
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from lab import cluster, haproxy
from lab.processes import children, family, signal_pid
from lab.wait import Late, until

NETWORK = "127.0.57"
AGENT_UID = 20500
UNPRIVILEGED = ["setpriv", f"--reuid={AGENT_UID}", "--regid=haproxy", "--clear-groups", "--no-new-privs",
                "--bounding-set=-all", "--inh-caps=-all", "--"]
NODE_GID = 20000  # node1 runs in group 20001
ETCD_GID = 20100
MEMBERS = 3

SETTINGS = """\
haproxy:
  socket: {folder}/haproxy.sock
  master_socket: {folder}/master.sock
  state_file: {folder}/state/haproxy.state
etcd:
  endpoints: [{endpoints}]
clusters:
  - scope: {scope}
    pools:
      - {{backend: primary, role: primary, check: /master, bind: "{proxy}:5000"}}
      - {{backend: replicas, role: replica, check: /replica, bind: "{proxy}:5001", fallback: primary}}
listen: {proxy}:9127
"""

ADDRESSES = """\
table ip chaos {{
  chain name {{ type nat hook postrouting priority srcnat; policy accept;
    ip saddr 127.0.0.1 meta skuid {agent} snat to {network}.201
{members}
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


class Etcd:
    """The first member that answers, through its JSON gateway."""

    def __init__(self, urls):
        self.urls = urls

    def post(self, path, message, timeout=3):
        problem = None
        for url in self.urls:
            try:
                request = urllib.request.Request(url + path, json.dumps(message).encode())
                with urllib.request.urlopen(request, timeout=timeout) as answer:
                    return json.load(answer)
            except OSError as error:
                problem = error
        raise problem

    def get(self, key):
        found = self.post("/v3/kv/range", {"key": encode(key)}).get("kvs")
        return decode(found[0].get("value", "")) if found else None

    def put(self, key, value):
        self.post("/v3/kv/put", {"key": encode(key), "value": encode(value)})

    def delete(self, key, end=None):
        self.post("/v3/kv/deleterange", {"key": encode(key), **({"range_end": encode(end)} if end else {})})

    def compact(self):
        revision = self.post("/v3/kv/range", {"key": encode("/")})["header"]["revision"]
        self.post("/v3/kv/compaction", {"revision": revision, "physical": True})

    def healthy(self, url):
        try:
            with urllib.request.urlopen(url + "/health", timeout=1) as answer:
                return json.load(answer).get("health") == "true"
        except (OSError, ValueError):
            return False


class Cluster(cluster.Lab):
    def __init__(self, folder, pointsman):
        folder.mkdir(mode=0o755)
        super().__init__(folder, NETWORK, pointsman, cluster.FAST, die_with_parent=False)
        self.etcd = Etcd([f"http://{NETWORK}.{100 + number}:2379" for number in range(1, MEMBERS + 1)])
        self.master_socket = self.folder / "master.sock"
        self.state_folder = self.folder / "state"
        self.lives = 0  # of the agent
        self.reloads = []  # when a new worker had the socket
        self.pointsman = shutil.copy(pointsman, self.folder)  # as it is now, though it be built anew meanwhile

    # The network

    def name_addresses(self):
        rows = [f"    ip saddr 127.0.0.1 meta skgid {NODE_GID + number} snat to {NETWORK}.{number}" for number in range(1, 10)]
        rows += [f"    ip saddr 127.0.0.1 meta skgid {ETCD_GID + number} snat to {NETWORK}.{100 + number}"
                 for number in range(1, MEMBERS + 1)]
        rows.append(f"    ip saddr 127.0.0.1 ip daddr {NETWORK}.1-{NETWORK}.9 tcp dport 5432 meta skgid haproxy "
                    f"snat to {self.proxy_address}")
        rows.append(f"    ip saddr 127.0.0.1 tcp dport 8008 meta skgid haproxy snat to {self.proxy_address}")
        text = ADDRESSES.format(agent=AGENT_UID, network=NETWORK, members="\n".join(rows))
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)

    @property
    def agent_address(self):
        return f"{NETWORK}.201"

    def etcd_address(self, number):
        return f"{NETWORK}.{100 + number}"

    @property
    def etcd_addresses(self):
        return [self.etcd_address(number) for number in range(1, MEMBERS + 1)]

    def cut(self, some, others):
        """No packet passes between the one side and the other until heal()."""
        for a in some:
            for b in others:
                if a != b:
                    self.drop(f"ip saddr {a} ip daddr {b}")
                    self.drop(f"ip saddr {b} ip daddr {a}")

    def drop(self, what):
        subprocess.run(["nft", f"add rule ip chaos cut {what} drop"], check=True)

    def heal(self):
        subprocess.run(["nft", "flush chain ip chaos cut"], check=True)

    # etcd

    def etcd_name(self, number):
        return f"etcd{number}"

    def start_member(self, number):
        urls = {n: f"http://{self.etcd_address(n)}:2380" for n in range(1, MEMBERS + 1)}
        client = self.etcd.urls[number - 1]
        name = self.etcd_name(number)
        command = ["/usr/bin/etcd", "--name", name, "--data-dir", self.folder / name, "--unsafe-no-fsync",
                   "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", urls[number],
                   "--initial-advertise-peer-urls", urls[number],
                   "--initial-cluster", ",".join(f"{self.etcd_name(n)}={url}" for n, url in urls.items()),
                   "--logger", "zap", "--max-request-bytes", str(4 << 20)]
        self.processes.start(name, as_user("root", ETCD_GID + number, command), self.folder / f"{name}.log")

    def wait_etcd(self, seconds=30):
        until(lambda: all(self.etcd.healthy(url) for url in self.etcd.urls), seconds, "every member of etcd is healthy")

    # Patroni

    def start_node(self, number, fake_clock=None):
        node = self.node(number)
        account = pwd.getpwnam("postgres")
        node.folder.mkdir(mode=0o700, exist_ok=True)
        shutil.chown(node.folder, account.pw_uid, account.pw_gid)
        self._configure(node)
        command = [*faked(fake_clock), "/usr/bin/patroni", node.file]
        environment = [f"HOME={account.pw_dir}", "USER=postgres"]
        self.processes.start(node.name, as_user("postgres", NODE_GID + number, ["env", *environment, *command]),
                             self.folder / f"{node.name}.log")
        return node

    def _configure(self, node):
        node.write_configuration(cluster.SCOPE, "", self.timing)
        settings = json.loads(node.file.read_text())
        settings["etcd3"]["hosts"] = [f"{address}:2379" for address in self.etcd_addresses]
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

    def write_settings(self, socket=None):
        endpoints = ", ".join(f'"{url}"' for url in self.etcd.urls)
        self.settings.write_text(SETTINGS.format(folder=self.folder, endpoints=endpoints, scope=cluster.SCOPE,
                                                 proxy=self.proxy_address))

    def prepare_haproxy(self):
        self.write_settings()
        self.state_folder.mkdir(mode=0o755)
        # Small and of its own, so that it can be filled up.
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "state", self.state_folder], check=True)
        os.chown(self.state_folder, AGENT_UID, -1)
        (self.folder / "haproxy.cfg").write_text(haproxy.configuration(self.pointsman, self.settings))
        (self.folder / "host.cfg").write_text("global\n    user haproxy\n    group haproxy\n")

    def start_haproxy(self):
        command = ["/usr/sbin/haproxy", "-W", "-S", f"{self.master_socket},mode,660,group,haproxy,level,admin",
                   "-f", self.folder / "haproxy.cfg", "-f", self.folder / "host.cfg"]
        self.processes.start("haproxy", as_user("root", "haproxy", command), self.folder / "haproxy.log")
        until(self.port_open, 10, "HAProxy's port is open", every=0.005)

    def port_open(self):
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.proxy_address, 5000)) == 0

    def haproxy_family(self):
        pid = self.processes.pid("haproxy")
        return family(pid) if pid else []

    def workers(self):
        pid = self.processes.pid("haproxy")
        return children(pid) if pid else []

    def reload(self):
        """As systemd does it; back when a new worker has the socket."""
        before = self.worker()
        self.processes.signal("haproxy", signal.SIGUSR2)
        until(lambda: self.worker() not in (None, before), 20, "a new worker has HAProxy's socket", every=0.02)
        self.reloads.append(time.monotonic())
        until(self.master_answers, 10, "HAProxy's master answers", every=0.02)  # it is deaf until then to the next signal

    def master_answers(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            try:
                connection.connect(str(self.master_socket))
                connection.sendall(b"show proc\n")
                connection.shutdown(socket.SHUT_WR)
                return str(self.worker()).encode() in b"".join(iter(lambda: connection.recv(65536), b""))
            except OSError:
                return False

    def worker(self):
        try:
            return haproxy.identity(self.socket)[0]
        except (OSError, KeyError):
            return None

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

    def start(self, nodes, etcd_options=()):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        self.name_addresses()
        for number in range(1, MEMBERS + 1):
            self.start_member(number)
        self.wait_etcd()
        first = self.start_node(1)
        until(first.writable, 180, "the first node takes writes")
        others = [self.start_node(number) for number in range(2, nodes + 1)]
        self.prepare_haproxy()
        self.start_haproxy()
        self.start_agent()
        self.wait_streaming(*others, seconds=180)
        self.wait_synchronous()
        self.wait_in_step(30)

    def wait_synchronous(self, seconds=60):
        until(lambda: self.synchronous().get("sync_standby"), seconds, "a standby is synchronous", every=0.2)

    def wait_whole(self, seconds):
        """Everything runs, every node streams, one standby is synchronous, and HAProxy is in step. Returns the nodes that
        had to be made anew: Patroni 3.0.2 lets a node be that follows a timeline of its own."""
        deadline = time.monotonic() + seconds

        def left():
            return max(1.0, deadline - time.monotonic())

        self.wait_etcd(left())
        leader = until(self.writable_leader, left(), "a leader takes writes", every=0.1)
        anew = []
        for node in self.running_nodes():
            if node.name == leader.name:
                continue
            try:
                until(lambda: self.at_rest(node), min(90, left()), f"{node.name} streams")
            except Late:
                anew.append(node.name)
                self.make_anew(node)
                until(lambda: self.at_rest(node), left(), f"{node.name} streams, made anew")
        until(self.quiet, left(), "a standby is synchronous and HAProxy's slots are in step", every=0.1)
        return anew

    def make_anew(self, node):
        """What an operator does with a node that does not come back by itself."""
        self.stop_node(node)
        shutil.rmtree(node.data, ignore_errors=True)
        self.start_node(self.number(node))

    def at_rest(self, node):
        leader = self.writable_leader()
        return leader and (leader.name == node.name or self.streaming(node))

    def quiet(self):
        with contextlib.suppress(OSError, urllib.error.URLError, ValueError):
            sync, leader = self.synchronous(), self.writable_leader()
            return (leader and sync.get("leader") == leader.name and sync.get("sync_standby") and self.in_step())
        return False


def as_user(user, group, command):
    account = pwd.getpwnam(user)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={group}", "--clear-groups", "--", *command]


def faked(clock):
    """A file whose text is the offset of the wall clock, for libfaketime; the monotonic clock stays as it is."""
    return ["env", f"FAKETIME_TIMESTAMP_FILE={clock}", "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"] if clock else []
