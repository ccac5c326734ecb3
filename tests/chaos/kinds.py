"""The kinds of fault. Each is a generator: what comes before `yield` begins it, what comes after ends it.

`touches` says which part it is done to, so that two that overlap never are about the same. `blind` says that meanwhile
the agent cannot know or act, so that what it owes is owed from the fault's end on. `harmless` are those that no client
may notice. `closes` are those that take HAProxy's ports away themselves.
"""

import contextlib
import json
import shutil
import signal
import socket
import threading
import time
from dataclasses import dataclass
from typing import Callable

import fake_rest
from delay import Delay
from lab import clients, cluster, haproxy
from lab.processes import signal_pid
from lab.wait import Late, until

KINDS = {}
INJECTED = "set server primary/pg1 state maint"
REPAIRED_WITHIN = 2.0  # seconds after which no slot is as somebody else has set it: a resync, and a busy machine
LEASE = cluster.FAST["ttl"]


@dataclass(frozen=True)
class Kind:
    name: str
    touches: frozenset
    lasts: tuple  # seconds, at least and at most, between its two halves
    blind: bool
    harmless: bool
    closes: bool
    run: Callable


def fault(name, touches, lasts, blind=False, harmless=False, closes=False):
    def add(run):
        KINDS[name] = Kind(name, frozenset(touches.split()), lasts, blind, harmless, closes, contextlib.contextmanager(run))
        return run
    return add


class World:
    """What a fault may use: the cluster, and chances that depend on the seed alone."""

    def __init__(self, lab, chance):
        self.lab = lab
        self.chance = chance
        self.excused = []  # (begin, end): two slots in the primary pool are somebody else's doing
        self.closed = []  # (begin, end): HAProxy's ports
        self.last_leader = None
        self.notes = []  # of this turn

    def leader(self):
        """Of the two that overlap, the second may come when there is none: then the last."""
        self.last_leader = self.lab.leader() or self.last_leader or self.lab.wait_writable()
        return self.last_leader

    def replica(self):
        replicas = self.lab.replicas()
        return replicas[self.chance.randrange(1 << 16) % len(replicas)]

    def members(self, count=1):
        """Of etcd."""
        return self.chance.sample(self.lab.members, count)

    def start(self, node):
        """Patroni of a node that it ran on before, if it does not run any more."""
        if not self.lab.processes.pid(node.name):
            self.lab.start_node(self.lab.number(node))

    @contextlib.contextmanager
    def port_closed(self):
        begun = time.monotonic()
        self.closed.append((begun, float("inf")))
        yield
        self.closed[-1] = (begun, time.monotonic())


# --- nodes

def _stop_both(world, node, number):
    world.lab.processes.signal(node.name, number)
    world.lab.signal_postgres(node, number)


def _kill_postgres(world, node):
    postmaster = node.postmaster()
    if postmaster:
        world.lab.signal_postgres(node, signal.SIGKILL)


def _node_faults(who, pick):
    """The same for the leader and for a replica. Patroni's lease of 20 s may or may not run out meanwhile."""
    long = (LEASE // 3, LEASE + 10) if who == "leader" else (4, LEASE // 2)

    @fault(f"{who}: kill -9 of Patroni", "node", long)
    def kill_patroni(world):
        node = pick(world)
        world.lab.crash_node(node, patroni_only=True)
        yield
        world.start(node)

    @fault(f"{who}: kill -9 of PostgreSQL", "node", (3, 6))
    def kill_postgres(world):
        _kill_postgres(world, pick(world))
        yield

    @fault(f"{who}: kill -9 of Patroni and PostgreSQL", "node", long)
    def kill_both(world):
        node = pick(world)
        world.lab.crash_node(node)
        yield
        world.start(node)

    @fault(f"{who}: SIGTERM to Patroni", "node", (4, 10))
    def term_patroni(world):
        node = pick(world)
        world.lab.processes.signal(node.name, signal.SIGTERM)
        yield
        world.lab.stop_node(node)
        world.start(node)

    @fault(f"{who}: fast shutdown of PostgreSQL", "node", (3, 6))
    def stop_postgres(world):
        postmaster = pick(world).postmaster()
        if postmaster:
            signal_pid(postmaster, signal.SIGINT)
        yield

    @fault(f"{who}: SIGSTOP of Patroni", "node", long)
    def freeze_patroni(world):
        node = pick(world)
        world.lab.processes.signal(node.name, signal.SIGSTOP)
        yield
        world.lab.processes.signal(node.name, signal.SIGCONT)

    @fault(f"{who}: SIGSTOP of PostgreSQL", "node", long)
    def freeze_postgres(world):
        node = pick(world)
        world.lab.signal_postgres(node, signal.SIGSTOP)
        yield
        world.lab.signal_postgres(node, signal.SIGCONT)

    @fault(f"{who}: SIGSTOP of both", "node", long)
    def freeze_both(world):
        node = pick(world)
        _stop_both(world, node, signal.SIGSTOP)
        yield
        _stop_both(world, node, signal.SIGCONT)


_node_faults("leader", World.leader)
_node_faults("replica", World.replica)


@fault("leader: smart shutdown of PostgreSQL and then a fast one", "node", (3, 6))
def smart_shutdown(world):
    """Waits for the sessions there are, Patroni's own among them, which therefore says that all is well."""
    postmaster = world.leader().postmaster()
    signal_pid(postmaster, signal.SIGTERM)
    yield
    signal_pid(postmaster, signal.SIGINT)


@fault("leader: PostgreSQL restarted through Patroni", "node", (2, 4))
def restart(world):
    leader = world.leader()
    asked = threading.Thread(target=lambda: _ignoring(lambda: leader.post("/restart", {})), daemon=True)
    asked.start()
    yield
    asked.join(60)


def _ignoring(action):
    with contextlib.suppress(OSError, ValueError):
        action()


@fault("replica: made anew", "node", (1, 3))
def reinitialize(world):
    world.replica().post("/reinitialize", {"force": True})
    yield


@fault("leader: the wall clock of its Patroni jumps by an hour and back", "node", (4, 8))
def patroni_clock(world):
    node, clock = world.leader(), world.lab.folder / "clock.patroni"
    clock.write_text("+0\n")
    _restart_patroni(world, node, clock)
    clock.write_text("+3600\n")
    yield
    clock.write_text("-3600\n")
    time.sleep(4)
    clock.write_text("+0\n")
    _restart_patroni(world, node, None)


def _restart_patroni(world, node, clock):
    """So soon that nobody else takes the key."""
    world.lab.crash_node(node, patroni_only=True)
    world.lab.start_node(world.lab.number(node), fake_clock=clock)
    until(lambda: node.get("/patroni")[0], 30, "Patroni is back")


# --- etcd

def _etcd_faults():
    for count, what in ((1, "one member"), (2, "two members"), (3, "every member")):
        # One that is away is no outage of etcd's.
        @fault(f"etcd: kill -9 of {what}", "etcd", (3, 15) if count == 1 else (3, 12), blind=count > 1)
        def kill(world, count=count):
            for name in world.members(count):
                world.lab.processes.kill(name)
            yield
            world.lab.start_etcd()

        @fault(f"etcd: SIGSTOP of {what}", "etcd", (3, LEASE + 5), blind=True)
        def freeze(world, count=count):
            names = world.members(count)
            for name in names:
                world.lab.processes.signal(name, signal.SIGSTOP)
            yield
            for name in names:
                world.lab.processes.signal(name, signal.SIGCONT)


_etcd_faults()


@fault("etcd: compaction while the agent is cut off", "etcd network", (2, 6), blind=True, harmless=True)
def compaction(world):
    world.lab.cut([world.lab.agent_address], world.lab.all_etcd)
    yield
    for number in range(20):
        world.lab.etcd.put("/elsewhere", str(number))
    world.lab.compact()
    world.lab.heal()


@fault("etcd: the cluster's keys deleted", "etcd node", (3, 6))
def delete_prefix(world):
    world.lab.delete_all(world.lab.key(""))
    yield


@fault("etcd: the members' keys deleted", "etcd node", (2, 4), harmless=True)
def delete_members(world):
    world.lab.delete_all(world.lab.key("members/"))
    yield


# --- the agent

@fault("agent: kill -9 and start", "agent", (0, 8), blind=True, harmless=True)
def agent_killed(world):
    world.lab.processes.kill("pointsman")
    yield
    world.lab.start_agent()


@fault("agent: SIGTERM and start", "agent", (0, 8), blind=True, harmless=True)
def agent_stopped(world):
    world.lab.processes.stop("pointsman")
    world.lab.release()
    yield
    world.lab.start_agent()


@fault("agent: SIGSTOP", "agent", (1, 20), blind=True, harmless=True)
def agent_frozen(world):
    world.lab.processes.signal("pointsman", signal.SIGSTOP)
    yield
    world.lab.processes.signal("pointsman", signal.SIGCONT)


@fault("agent: ten SIGHUP", "agent", (0, 1), harmless=True)
def agent_hup(world):
    for _ in range(10):
        world.lab.processes.signal("pointsman", signal.SIGHUP)
        time.sleep(0.1)
    yield


@fault("agent: killed again and again in a switchover", "agent node", (0, 1), blind=True)
def agent_killed_in_switchover(world):
    target = _synchronous(world)
    switching = threading.Thread(target=_switch, args=(world, target))
    switching.start()
    while switching.is_alive():
        world.lab.processes.kill("pointsman")
        world.lab.start_agent()
        time.sleep(world.chance.uniform(0.05, 0.6))
    yield


@fault("agent: the wall clock jumps by an hour and back", "agent", (3, 6), harmless=True)
def agent_clock(world):
    clock = world.lab.folder / "clock"
    clock.write_text("+0\n")
    world.lab.processes.stop("pointsman")
    world.lab.start_agent(fake_clock=clock)
    time.sleep(2)
    clock.write_text("+3600\n")
    yield
    clock.write_text("-3600\n")
    time.sleep(3)
    world.lab.processes.stop("pointsman")
    world.lab.start_agent()


# --- HAProxy

@fault("HAProxy: kill -9 of master and workers and start", "haproxy", (0, 4), blind=True, closes=True)
def haproxy_killed(world):
    with world.port_closed():
        world.lab.proxy.end(signal.SIGKILL)
        yield
        world.lab.start_haproxy()


@fault("HAProxy: kill -9 of the worker and start", "haproxy", (0, 2), blind=True, closes=True)
def worker_killed(world):
    with world.port_closed():
        signal_pid(world.lab.worker(), signal.SIGKILL)
        until(lambda: not world.lab.processes.pid("haproxy"), 10, "the master has followed its worker")
        yield
        world.lab.start_haproxy()


@fault("HAProxy: reload", "haproxy", (1, 3), harmless=True)
def reload(world):
    world.lab.reload()
    yield


@fault("HAProxy: five reloads in a row", "haproxy", (1, 3), harmless=True)
def reloads(world):
    for _ in range(5):
        world.lab.reload()
    yield


@fault("HAProxy: reload in the midst of a switchover", "haproxy node", (0, 1))
def reload_in_switchover(world):
    target = _synchronous(world)
    switching = threading.Thread(target=_switch, args=(world, target))
    switching.start()
    time.sleep(world.chance.uniform(0, 3))
    world.lab.reload()
    switching.join()
    yield


@fault("HAProxy: reload and then kill -9 of the leader's Patroni", "haproxy node", (LEASE + 2, LEASE + 8))
def reload_then_kill(world):
    world.lab.reload()
    node = world.leader()
    world.lab.crash_node(node, patroni_only=True)
    yield
    world.start(node)


@fault("HAProxy: SIGSTOP", "haproxy", (1, 12), blind=True)
def haproxy_frozen(world):
    pids = world.lab.proxy.pids()
    for pid in pids:
        signal_pid(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        signal_pid(pid, signal.SIGCONT)


@fault("HAProxy: its stats socket is full", "haproxy agent", (5, 12), blind=True, harmless=True)
def socket_full(world):
    full = Crowd(world.lab.socket)
    yield
    full.close()


class Crowd:
    """So many connections to HAProxy's stats socket (10 by default) that nobody else gets in."""

    def __init__(self, path):
        self.path = str(path)
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._sit, daemon=True) for _ in range(40)]
        for thread in self.threads:
            thread.start()

    def _sit(self):
        while not self.ending.is_set():
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as idle:
                idle.settimeout(1)
                idle.connect(self.path)
                while not self.ending.is_set():
                    try:
                        if not idle.recv(1):
                            break
                    except TimeoutError:
                        pass

    def close(self):
        self.ending.set()
        for thread in self.threads:
            thread.join(5)


@fault("HAProxy: an operator sets slots by hand", "haproxy agent", (2, 4))
def by_hand(world):
    leader, replica = world.leader(), world.replica()
    slots = haproxy.slots(world.lab.socket)

    def slot(backend, node):
        return next((f"{backend}/{s.name}" for s in slots if s.backend == backend and s.address == f"{node.address}:5432"),
                    None)

    begun = time.monotonic()
    world.excused.append((begun, begun + REPAIRED_WITHIN))
    mine = [f"set server {slot('replicas', replica)} state maint", f"set server {slot('primary', leader)} state drain",
            f"set server {slot('replicas', replica)} weight 10%", f"disable health {slot('replicas', replica)}",
            f"set server {slot('primary', replica)} state ready"]
    for command in world.chance.sample(mine, 3):
        if "None" not in command:
            haproxy.ask(world.lab.socket, command)
    yield


@fault("HAProxy: the state file's folder is full", "haproxy", (3, 8), harmless=True)
def folder_full(world):
    filler = world.lab.state_folder / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    leader = world.leader()
    world.lab.set_noloadbalance(leader, False)  # a SIGHUP that changes nothing
    yield
    filler.unlink()


# --- the network

def _cut(name, sides, lasts, blind=False, harmless=False):
    @fault(f"network: {name}", "network", lasts, blind=blind, harmless=harmless)
    def cut(world):
        for some, others in sides(world):
            world.lab.cut(some, others)
        yield
        world.lab.heal()


def _nodes(world):
    return [node.address for node in world.lab.running_nodes()]


def _member(world):
    return [world.lab.etcd_addresses[name] for name in world.members()]


def _everyone(world):
    return [*_nodes(world), *world.lab.all_etcd, world.lab.proxy_address, world.lab.agent_address, "127.0.0.1"]


LONG = (LEASE // 3, LEASE + 10)
_cut("leader from etcd", lambda w: [([w.leader().address], w.lab.all_etcd)], LONG)
_cut("leader from everyone but the agent",
     lambda w: [([w.leader().address], [a for a in _everyone(w) if a not in ("127.0.0.1", w.lab.agent_address)])], LONG)
_cut("leader from everyone", lambda w: [([w.leader().address], [a for a in _everyone(w) if a != "127.0.0.1"])], LONG)
_cut("leader from HAProxy", lambda w: [([w.leader().address], [w.lab.proxy_address])], (3, 12))
_cut("leader from its replicas", lambda w: [([w.leader().address], [node.address for node in w.lab.replicas()])], (4, 15))
_cut("a replica from everyone", lambda w: [([w.replica().address], [a for a in _everyone(w) if a != "127.0.0.1"])], (3, 25))
_cut("agent from etcd", lambda w: [([w.lab.agent_address], w.lab.all_etcd)], (3, 30), blind=True, harmless=True)
_cut("agent from one member of etcd", lambda w: [([w.lab.agent_address], _member(w))], (3, 20),
     harmless=True)
_cut("agent from the leader", lambda w: [([w.lab.agent_address], [w.leader().address])], (3, 20), blind=True)
_cut("agent from a replica", lambda w: [([w.lab.agent_address], [w.replica().address])], (3, 20), harmless=True)
_cut("agent from everything", lambda w: [([w.lab.agent_address], [a for a in _everyone(w) if a != w.lab.agent_address])],
     (3, 20), blind=True)
_cut("a member of etcd from its peers", lambda w: [(_member(w), w.lab.all_etcd)], (3, 20))


# The leader may demote itself while the agent's questions are lost too.
@fault("network: a fifth of all packets is lost", "network", (5, 12), blind=True)
def loss(world):
    world.lab.lose("ip saddr 127.0.0.0/8")
    yield
    world.lab.heal()


@fault("network: a fifth of the agent's packets is lost", "network", (5, 20), harmless=True)
def loss_of_agent(world):
    world.lab.lose(f"ip saddr {world.lab.agent_address}", f"ip daddr {world.lab.agent_address}")
    yield
    world.lab.heal()


@fault("network: the agent's packets take 200 ms", "network", (5, 15), harmless=True)
def delay_agent(world):
    with Delay([world.lab.agent_address], 0.2):
        yield


@fault("network: etcd's packets take 200 ms", "network", (5, 15))
def delay_etcd(world):
    with Delay(world.lab.all_etcd, 0.2):
        yield


# --- what operators do

def _switch(world, target):
    """A planned switchover. Patroni may say no: then that is a note, not a fault."""
    try:
        world.lab.switchover(target)
    except (Late, OSError, RuntimeError) as problem:
        world.notes.append(str(problem))


def _synchronous(world):
    """Patroni hands over to the synchronous standby only."""
    name = (world.lab.synchronous().get("sync_standby") or "").split(",")[0]
    return next((node for node in world.lab.running_nodes() if node.name == name), None) or world.replica()


@fault("switchover", "node", (0, 2))
def switchover(world):
    _switch(world, _synchronous(world))
    yield


@fault("switchover and back at once", "node", (0, 2))
def back_and_forth(world):
    old = world.leader()
    _patch(world, {"synchronous_node_count": 2})  # Patroni hands over to a synchronous standby only
    _switch(world, _synchronous(world))
    until(lambda: old.name in (world.lab.synchronous().get("sync_standby") or ""), 60, f"{old.name} is synchronous")
    _switch(world, old)
    yield
    _patch(world, {"synchronous_node_count": None})


@fault("a member joins and leaves", "node", (1, 4))
def join_and_leave(world):
    node = world.lab.start_node(4)
    world.lab.wait_streaming(node)
    yield
    if world.chance.random() < 0.5:
        world.lab.set_noloadbalance(node, True)
        until(lambda: not node.fit_replica(), 20, f"{node.name} is announced to leave")
        time.sleep(3)
    world.lab.stop_node(node)
    shutil.rmtree(node.folder)


@fault("noloadbalance set and taken back", "node", (3, 8))
def noloadbalance(world):
    node = world.replica()
    world.lab.set_noloadbalance(node, True)
    until(lambda: not node.fit_replica(), 20, f"{node.name} no longer takes readers")
    yield
    world.lab.set_noloadbalance(node, False)


@fault("Patroni is paused and the leader's Patroni killed", "node", (4, LEASE + 10))
def pause(world):
    leader = world.leader()
    _patch(world, {"pause": True})
    until(lambda: leader.get("/patroni")[1].get("pause"), 20, "the cluster is paused")
    world.lab.crash_node(leader, patroni_only=True)
    yield
    world.start(leader)
    until(lambda: leader.get("/patroni")[0], 20, "Patroni is back")
    _patch(world, {"pause": None})


def _patch(world, change):
    """The dynamic configuration."""
    key = world.lab.key("config")
    settings = json.loads(world.lab.etcd.get(key))
    settings.update(change)
    world.lab.etcd.put(key, json.dumps({name: value for name, value in settings.items() if value is not None}))


# --- what nobody should do

def _put_members(world, members):
    for name, value in members.items():
        text = value if isinstance(value, str) else json.dumps(value)
        world.lab.etcd.put(world.lab.key(f"members/{name}"), text)


def _delete_members(world, members):
    for name in members:
        world.lab.etcd.delete(world.lab.key(f"members/{name}"))


@fault("garbage in etcd", "etcd", (3, 10), harmless=True)
def garbage(world):
    # Not bytes that are no UTF-8: those bring Patroni 3.0.2 itself down.
    members = {"g01": "\0;set server primary/pg1 state maint", "g02": "", "g03": "[[[[", "g04": "{" * 5000,
               "g05": "9" * 100_000, "g\n06/x": "{}"}
    _put_members(world, members)
    others = ["initialize;show errors", "leader/", "leaderx", "statusx"]
    for other in others:
        world.lab.etcd.put(world.lab.key(other), "\0garbage")
    yield
    _delete_members(world, members)
    for other in others:
        world.lab.etcd.delete(world.lab.key(other))


@fault("hostile members", "etcd", (5, 12), harmless=True)
def hostile_members(world):
    answers = [fake_rest.stopped, fake_rest.claims_to_lead, fake_rest.never_ends, fake_rest.endless_header, fake_rest.never_answers]
    rests = [fake_rest.Rest(f"{world.lab.network}.150", 8001 + number, answer) for number, answer in enumerate(answers)]
    members = {f"h{number:02}": {"conn_url": f"postgres://{world.lab.network}.{160 + number}:5432/postgres",
                                 "api_url": rest.url} for number, rest in enumerate(rests)}
    members["h10;show errors"] = {"conn_url": f"postgres://{world.lab.network}.1;{INJECTED}:5432/postgres",
                                  "api_url": rests[0].url}
    members["h11"] = {"conn_url": f"postgres://a\n{INJECTED}\n:5432/postgres", "api_url": "http://[::1"}
    _put_members(world, members)
    yield
    _delete_members(world, members)
    for rest in rests:
        rest.close()


@fault("more members than slots and a switchover", "etcd node", (3, 6))
def exhaustion(world):
    rest = fake_rest.Rest(f"{world.lab.network}.150", 8001, fake_rest.stopped)
    # Before the nodes by name, so that it is not the alphabet that saves the leader.
    members = {f"a{number:02}": {"conn_url": f"postgres://{world.lab.network}.{160 + number}:5432/postgres",
                                 "api_url": rest.url} for number in range(20)}
    _put_members(world, members)
    time.sleep(2)
    _switch(world, _synchronous(world))
    yield
    _delete_members(world, members)
    rest.close()


@fault("a second member with the leader's address", "etcd", (3, 8), harmless=True)
def twin(world):
    leader = world.leader()
    text = world.lab.etcd.get(world.lab.key(f"members/{leader.name}"))
    _put_members(world, {"a-twin": text, "z-twin": text})
    yield
    _delete_members(world, ["a-twin", "z-twin"])

