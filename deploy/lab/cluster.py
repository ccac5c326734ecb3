"""The cluster: etcd, Patroni nodes, HAProxy and the agent, each on an address of its own in one loopback network."""

import json
import pathlib
import pwd
import shutil
import signal
import subprocess
import time

from . import haproxy, interrupt
from .etcd import Etcd
from .patroni import Node
from .processes import Processes, alive, children, end_pids, signal_pid, start_time
from .proxy import Proxy
from .wait import Late, until

DEPLOY = pathlib.Path(__file__).resolve().parent.parent
SCOPE = "demo"
SLOTS = 8

PRODUCTION = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10}  # Patroni's defaults
FAST = {"ttl": 20, "loop_wait": 2, "retry_timeout": 3}  # for tests: the shortest lease that Patroni accepts

AGENT_SETTINGS = """\
haproxy:
{haproxy}
etcd: {etcd}
clusters:
  - scope: {scope}
    pools:
      - {{backend: primary, role: primary, check: /master, bind: "{proxy}:5000"}}
      - {{backend: replicas, role: replica, check: /replica, bind: "{proxy}:5001", fallback: primary}}
listen: {proxy}:9127
"""


class Lab:
    """One cluster in one folder. What it starts is recorded there, so that a later Lab of the folder can end it."""

    def __init__(self, folder, network, pointsman, timing, die_with_parent, etcd_members=1):
        self.folder = pathlib.Path(folder)
        self.network = network
        self.pointsman = pathlib.Path(pointsman).resolve()
        self.timing = timing
        self.processes = Processes(self.folder, die_with_parent)
        names = ["etcd", *(f"etcd{number}" for number in range(2, etcd_members + 1))]
        self.etcd_addresses = {name: f"{network}.{100 + index}" for index, name in enumerate(names)}
        self.etcd = Etcd(f"http://{address}:2379" for address in self.etcd_addresses.values())
        self.agent_user = "root"
        self.proxy_address = f"{network}.200"
        self.proxy = Proxy(self.folder, self.processes)
        self.socket = self.proxy.socket
        self.state_file = self.folder / "haproxy.state"  # None: not kept
        self.master_socket = None  # where the agent reaches old workers
        self.settings = self.folder / "pointsman.yml"
        self.agent_log = self.folder / "pointsman.log"

    @classmethod
    def create(cls, folder, network, pointsman, timing, die_with_parent=True, etcd_members=1):
        folder = pathlib.Path(folder)
        folder.mkdir(mode=0o755)
        description = {"network": network, "pointsman": str(pointsman), "timing": timing,
                       "etcd_members": etcd_members}
        (folder / "lab.json").write_text(json.dumps(description))
        return cls(die_with_parent=die_with_parent, folder=folder, **description)

    @classmethod
    def open(cls, folder):
        folder = pathlib.Path(folder)
        return cls(die_with_parent=False, folder=folder, **json.loads((folder / "lab.json").read_text()))

    # etcd

    def start_etcd(self, *options):
        """Starts every member that does not run: with the data that it left, or as a new cluster."""
        peers = ",".join(f"{name}=http://{address}:2380" for name, address in self.etcd_addresses.items())
        for name, address in self.etcd_addresses.items():
            if not self.processes.pid(name):
                client, peer = f"http://{address}:2379", f"http://{address}:2380"
                command = ["/usr/bin/etcd", "--name", name, "--data-dir", self.folder / name, "--unsafe-no-fsync",
                           "--listen-client-urls", client, "--advertise-client-urls", client,
                           "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                           "--initial-cluster", peers, "--logger", "zap", *options]
                self.processes.start(name, command, self.folder / f"{name}.log")
        until(self.etcd.healthy, 20, "etcd is healthy")

    def protect_etcd(self, password):
        """Turns authentication on: Patroni is root, the agent the user `pointsman`, who may read its cluster alone."""
        (self.folder / "etcd.password").write_text(password)
        shutil.chown(self.folder / "etcd.password", self.agent_user)
        (self.folder / "etcd.password").chmod(0o600)
        for user in ("root", "pointsman"):
            self.etcdctl("user", "add", f"{user}:{password}")
        self.etcdctl("user", "grant-role", "root", "root")
        self.etcdctl("role", "add", "reader")
        self.etcdctl("role", "grant-permission", "reader", "--prefix=true", "read", self.key(""))
        self.etcdctl("user", "grant-role", "pointsman", "reader")
        self.etcdctl("auth", "enable")
        self.etcd.login = {"name": "root", "password": password}

    def etcdctl(self, *words, only=None):
        """What an operator types, as root where there is authentication. Returns the output."""
        endpoints = only or ",".join(self.etcd.urls)
        login = ["--user", f"root:{self.etcd.login['password']}"] if self.etcd.login else []
        done = subprocess.run(["/usr/bin/etcdctl", "--endpoints", endpoints, *login, *map(str, words)],
                              capture_output=True, text=True, timeout=60, check=False, env={"ETCDCTL_API": "3"})
        if done.returncode:
            raise RuntimeError(f"etcdctl {' '.join(map(str, words))}: {done.stderr.strip()}")
        return done.stdout

    def key(self, name):
        return f"/service/{SCOPE}/{name}"

    # Patroni

    def node(self, number):
        name = f"node{number}"
        return Node(name, f"{self.network}.{number}", self.folder / name)

    def nodes(self):
        """The nodes that have ever been started, in order."""
        numbers = sorted(int(path.name[4:]) for path in self.folder.glob("node*") if path.is_dir())
        return [self.node(number) for number in numbers]

    def running_nodes(self):
        return [node for node in self.nodes() if self.processes.pid(node.name)]

    def start_node(self, number):
        """Starts a new node, or one that was stopped or crashed. Returns at once."""
        node = self.node(number)
        account = pwd.getpwnam("postgres")
        node.folder.mkdir(mode=0o700, exist_ok=True)
        shutil.chown(node.folder, account.pw_uid, account.pw_gid)
        self._configure(node)
        self.processes.start(node.name, ["/usr/bin/patroni", node.file], self.folder / f"{node.name}.log", "postgres")
        return node

    def _configure(self, node):
        etcd = {"hosts": [f"{address}:2379" for address in self.etcd_addresses.values()]}
        if self.etcd.login:
            etcd |= {"username": "root", "password": self.etcd.login["password"]}
        node.write_configuration(SCOPE, etcd, self.timing)

    def stop_node(self, node):
        """What `systemctl stop patroni` does: SIGTERM, and Patroni stops PostgreSQL."""
        self.processes.stop(node.name, grace=30)
        self._end_postgres(node)

    def crash_node(self, node, patroni_only=False):
        """kill -9 of Patroni and, unless told otherwise, of the postmaster and all its children."""
        postmaster = None if patroni_only else node.postmaster()
        self.processes.signal(node.name, signal.SIGKILL)
        if postmaster:
            # Until they are gone its port takes connections, which are lost with it.
            end_pids([postmaster, *children(postmaster)], signal.SIGKILL, 10, f"PostgreSQL of {node.name} is gone")
        until(lambda: not self.processes.pid(node.name), 10, f"Patroni of {node.name} is gone")

    def set_noloadbalance(self, node, value):
        node.noloadbalance = value
        self.reload_node(node)

    def reload_node(self, node):
        """What `systemctl reload patroni` does, with the node's configuration as it is now."""
        self._configure(node)
        self.processes.signal(node.name, signal.SIGHUP)

    def leader(self):
        """The node that the leader key names, or None."""
        name = self.etcd.get(self.key("leader"))
        return next((node for node in self.nodes() if node.name == name), None)

    def writable_leader(self):
        leader = self.leader()
        return leader if leader and leader.writable() else None

    def streaming(self, node):
        """Whether the node streams from the leader and answers as a replica."""
        leader = self.leader()
        if not leader or not node.fit_replica():
            return False
        standbys = leader.get("/patroni")[1].get("replication", [])
        return any(row["application_name"] == node.name and row["state"] == "streaming" for row in standbys)

    def wait_writable(self, seconds=60):
        return until(self.writable_leader, seconds, "a leader takes writes", every=0.1)

    def wait_streaming(self, *nodes, seconds=90):
        for node in nodes:
            until(lambda: self.streaming(node), seconds, f"{node.name} streams from the leader", every=0.1)

    def wait_complete(self, patience=60, seconds=180):
        """Every running node leads or streams. Returns the names of those that had to be made anew: Patroni 3.0.2 lets a
        node be that follows a timeline of its own, mostly after two changes of leader in a row."""
        deadline = time.monotonic() + seconds

        def left():
            return max(1.0, deadline - time.monotonic())

        self.wait_writable(min(60, left()))
        anew = []
        for node in self.running_nodes():
            try:
                until(lambda: self.at_rest(node), min(patience, left()), f"{node.name} streams", every=0.1)
            except Late:
                anew.append(node.name)
                self.make_anew(node)
                until(lambda: self.at_rest(node), min(patience, left()), f"{node.name} streams, made anew", every=0.1)
        return anew

    def at_rest(self, node):
        leader = self.writable_leader()
        return leader and (leader.name == node.name or self.streaming(node))

    def make_anew(self, node):
        """What an operator does with a node that does not come back by itself."""
        self.stop_node(node)
        shutil.rmtree(node.data, ignore_errors=True)
        self.start_node(int(node.name[4:]))

    def switchover(self, candidate):
        """Returns the time at which the request that succeeded was sent. Asks the leader itself, which acts at once;
        another node's API would wait for the leader's next loop."""
        self.wait_complete()
        leader = self.wait_writable()
        request = {"leader": leader.name, "candidate": candidate.name}

        def accepted():
            sent = time.monotonic()
            status, body = leader.post("/switchover", request)
            # 412: what Patroni knows of the candidate is one loop old. 503, 504: etcd has not answered it in time.
            if status not in (200, 412, 503, 504):
                raise RuntimeError(f"switchover to {candidate.name}: HTTP {status}: {body.get('text')}")
            now_leads = self.leader() if status in (503, 504) else None
            return sent if status == 200 or (now_leads and now_leads.name == candidate.name) else None

        return until(accepted, 30, f"{leader.name} hands over to {candidate.name}", every=0.5)

    # HAProxy and the agent

    def write_settings(self, socket=None):
        known = {"socket": socket or self.socket, "master_socket": self.master_socket, "state_file": self.state_file}
        haproxy_settings = "\n".join(f"  {key}: {value}" for key, value in known.items() if value)
        etcd = {"endpoints": [f"http://{address}:2379" for address in self.etcd_addresses.values()]}
        if self.etcd.login:
            etcd |= {"username": "pointsman", "password_file": str(self.folder / "etcd.password")}
        self.settings.write_text(AGENT_SETTINGS.format(haproxy=haproxy_settings, etcd=json.dumps(etcd), scope=SCOPE,
                                                       proxy=self.proxy_address))

    def start_haproxy(self):
        """HAProxy with the configuration that Pointsman prints for it."""
        self.write_settings()
        self.proxy.file.write_text(haproxy.configuration(self.pointsman, self.settings))
        self.proxy.start()

    def start_agent(self, log=None, options=()):
        self.processes.start("pointsman", [self.pointsman, "run", *options, "--config", self.settings],
                             log or self.agent_log, self.agent_user)

    def run_pointsman(self, *words):
        """Exit status, output and errors of one of Pointsman's commands."""
        done = subprocess.run([self.pointsman, *words, "--config", self.settings], capture_output=True, text=True,
                              timeout=30, check=False)
        return done.returncode, done.stdout, done.stderr

    def ask_pointsman(self, *words):
        """The output of one of Pointsman's commands."""
        status, output, errors = self.run_pointsman(*words)
        if status:
            raise RuntimeError(f"pointsman {' '.join(words)}: exit status {status}: {errors}")
        return output

    def slots(self):
        """`pointsman slots --json`."""
        return json.loads(self.ask_pointsman("slots", "--json"))

    def in_step(self):
        """Whether every running node is where it should be, as HAProxy sees it: the leader in the primary pool alone,
        every fit replica in the replica pool, or the leader where there is none, nothing else."""
        leader = self.writable_leader()
        replicas = {f"{node.address}:5432" for node in self.running_nodes() if node.fit_replica()}
        try:
            ready = [slot for slot in haproxy.slots(self.socket) if slot.ready]
        except OSError:
            return False
        if leader and not replicas:
            replicas = {f"{leader.address}:5432"}
        return (leader is not None
                and [slot.address for slot in ready if slot.backend == "primary"] == [f"{leader.address}:5432"]
                and sorted(slot.address for slot in ready if slot.backend == "replicas") == sorted(replicas))

    def wait_in_step(self, seconds=20):
        until(self.in_step, seconds, "HAProxy's slots are in step with the cluster", every=0.1)

    def wait_settled(self):
        """Every node leads or streams and is where it should be, and the agent, which has heard them all, has nothing to do
        about it."""
        self.wait_complete()
        self.wait_in_step()
        until(lambda: all(row["in_step"] and "until it is probed" not in row.get("why", "")
                          for row in self.slots() if row["member"]), 20, "the agent has nothing to do", every=0.1)

    # All of it

    def start(self, nodes, etcd_options=(), etcd_password=None):
        """etcd, so many nodes, HAProxy and the agent; back when the slots are in step with a complete cluster."""
        self.start_etcd(*etcd_options)
        if etcd_password:
            self.protect_etcd(etcd_password)
        first = self.start_node(1)
        until(first.writable, 90, "the first node takes writes", every=0.05)
        others = [self.start_node(number) for number in range(2, nodes + 1)]
        self.start_haproxy()
        self.start_agent()
        self.wait_streaming(*others)
        self.wait_in_step()

    def destroy(self):
        """Ends every process, last started first, and removes the folder. Safe to repeat."""
        with interrupt.held():
            for name in reversed(list(self.processes.records)):
                if not name.startswith("node"):
                    self.processes.stop(name, grace=3)
            self.proxy.end(signal.SIGKILL)
            # Patroni would wait for an etcd that is gone: nothing here is worth an orderly end.
            for node in self.nodes():
                self.processes.kill_family(node.name)  # initdb and pg_basebackup too
                self._end_postgres(node)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end_postgres(self, node):
        """An immediate shutdown: unlike kill -9 of the postmaster it leaves no shared memory behind."""
        pid = node.postmaster()
        started = pid and start_time(pid)
        # Only what is certainly this node's: the postmaster runs in its data folder.
        if started and _runs_in(pid, node.data):
            signal_pid(pid, signal.SIGQUIT)
            for child in children(pid):  # PostgreSQL itself gives them five seconds first
                signal_pid(child, signal.SIGKILL)
            until(lambda: not alive(pid, started), 20, f"PostgreSQL of {node.name} is gone", every=0.01)


def _runs_in(pid, folder):
    try:
        return pathlib.Path(f"/proc/{pid}/cwd").resolve() == folder.resolve()
    except OSError:
        return False


def state_parent():
    """Memory where there is enough of it, for databases on a slow disk are slow to copy and to remove; a container's
    /dev/shm often has 64 MB."""
    shm = pathlib.Path("/dev/shm")
    return shm if shm.is_dir() and shutil.disk_usage(shm).total > 2 << 30 else pathlib.Path("/tmp")


def sweep(parent, prefix):
    """Ends and removes what killed owners left: folders named <prefix><pid>.<start time>."""
    for folder in pathlib.Path(parent).glob(prefix + "*"):
        pid, _, started = folder.name[len(prefix):].partition(".")
        if (folder / "lab.json").exists() and pid.isdigit() and str(start_time(int(pid))) != started:
            Lab.open(folder).destroy()
