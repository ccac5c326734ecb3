"""deploy/demo: a cluster on this machine's loopback, and what clients see of a node that joins and of a switchover."""

import argparse
import contextlib
import fcntl
import os
import pathlib
import sys
import textwrap
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from lab import clients, cluster, haproxy, interrupt
from lab.clients import Clients, Summary
from lab.observer import fit_replica, running_primary
from lab.sampler import Sampler
from lab.wait import Late, until

FOLDER = cluster.state_parent() / "pointsman-demo"
LOCK = pathlib.Path("/run/pointsman-demo.lock")
NETWORK = "127.0.20"
POINTSMAN = cluster.DEPLOY.parent / "build/release/pointsman"

class Refused(Exception):
    """What was asked for makes no sense now; the text says why and what would."""


# Output: one heading a step, one line a fact, the time since the start on the left.

START = time.monotonic()
BOLD, DIM, RESET = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def heading(text):
    print(f"\n{BOLD}{text}{RESET}", flush=True)


def say(text):
    print(f"{DIM}{time.monotonic() - START:7.1f}{RESET}  {text}", flush=True)


def note(text):
    print(f"         {text}", flush=True)


@contextlib.contextmanager
def waiting(text):
    """Shows on a terminal what is being waited for."""
    if sys.stdout.isatty():
        print(f"         {DIM}{text} ...{RESET}", end="\r", flush=True)
    try:
        yield
    finally:
        if sys.stdout.isatty():
            print("\033[2K", end="\r", flush=True)


# Steps

def start_cluster(die_with_parent):
    heading("A Patroni cluster of three nodes, with HAProxy and Pointsman in front of it")
    lab = cluster.Lab.create(FOLDER, NETWORK, POINTSMAN, cluster.PRODUCTION, die_with_parent)
    lab.start_etcd()
    say(f"etcd        {lab.etcd.url}")
    with waiting("the first node initialises its database"):
        first = lab.start_node(1)
        until(first.writable, 120, "node1 takes writes")
    say(f"node1       {first.address}:5432   leader")
    others = [lab.start_node(2), lab.start_node(3)]
    with waiting("two replicas copy it"):
        lab.wait_streaming(*others, seconds=120)
    for node in others:
        say(f"{node.name}       {node.address}:5432   replica")
    lab.start_haproxy()
    say(f"HAProxy     {lab.proxy_address}:5000 for writes, :5001 for reads; "
        f"{cluster.SLOTS} free slots in each; process {haproxy.identity(lab.socket)[0]}")
    started = time.monotonic()
    lab.start_agent()
    with waiting("the slots are filled"):
        lab.wait_in_step()
    say(f"Pointsman   has filled the slots, {time.monotonic() - started:.2f} s after its start")
    clients.create_ledger(first)
    return lab


def show_slots(lab):
    for line in lab.ask_pointsman("slots").splitlines():
        note(line)


def add_node(lab, sampler):
    number = max(int(node.name[4:]) for node in lab.nodes()) + 1
    if number > cluster.SLOTS:
        raise Refused(f"all {cluster.SLOTS} slots are taken")
    begun = time.monotonic()
    heading(f"node{number} joins")
    node = lab.start_node(number)
    observer = fit_replica(node)
    try:
        with waiting("it copies the leader's database"):
            until(lambda: observer.first(bool), 120, f"{node.name} answers /replica with 200")
            ready = sampler.wait_ready("replicas", node, begun)
    finally:
        observer.stop()
    fit = observer.first(bool)
    say(f"{node.name} is a replica {fit - begun:.1f} s after its start; "
        f"{max(0, ready - fit):.2f} s later its slot takes readers")
    return node


def switch_over(lab, target):
    old = lab.wait_writable()
    heading(f"Switchover from {old.name} to {target.name}")
    observers = [running_primary(old), running_primary(target)]
    try:
        with waiting(f"{old.name} stops, {target.name} is promoted"):
            begun = lab.switchover(target)
            until(lambda: observers[1].first(lambda answer: answer is True, begun), 60, f"{target.name} takes writes")
            lab.wait_in_step(30)
    finally:
        for observer in observers:
            observer.stop()
    stopped = observers[0].first(lambda answer: answer is not True, begun)
    promoted = observers[1].first(lambda answer: answer is True, begun)
    say(f"{old.name} stopped taking writes, {target.name} took them {promoted - stopped:.2f} s later")
    return begun, promoted


def report_switch(load, sampler, target, begun, promoted):
    ready = sampler.wait_ready("primary", target, begun)
    wrote = load.wait_served("write", target, 0, 60)
    note(f"from then its slot was ready at {1000 * (ready - promoted):+.0f} ms, and the first row was written through HAProxy "
         f"at {1000 * (wrote - promoted):+.0f} ms ({target.name} is asked every 20 ms, the agent asks more often)")


def report_clients(load):
    heading("What the clients saw")
    records = load.records()
    note(f"{'':<16}{'connections':>12}{'failed':>9}{'longest wait':>15}   served by")
    for kind, title in (("write", "new, writing"), ("read", "new, reading")):
        seen = Summary(records, kind)
        nodes = ", ".join(f"node{address.rpartition('.')[2]} {count}" for address, count in sorted(seen.nodes.items()))
        note(f"{title:<16}{seen.count:>12}{len(seen.failures):>9}{seen.longest:>13.2f} s   {nodes}")
        for error in seen.errors():
            note(f"    {textwrap.shorten(error, 100)}")
    cut = Summary(records, "kept").cut
    if cut:
        note(f"{len(cut)} sessions that were kept open on the old leader were cut, as they must be")
    return clients.acknowledged(records)


def check_rows(lab, rows):
    nodes = lab.running_nodes()
    with waiting("the old leader follows the new one"):
        lab.wait_complete()
        for node in nodes:
            clients.wait_rows(node, rows)
    say(f"each of the {len(rows)} rows that were acknowledged is on all {len(nodes)} nodes")


@contextlib.contextmanager
def under_load(lab):
    """Clients and a sampler of HAProxy's slots around a step."""
    sampler, load = Sampler(lab), Clients(lab)
    try:
        yield load, sampler
    finally:
        load.kill()
        sampler.stop()


# Commands

def story():
    refuse_if_up()
    lab = None
    try:
        lab = start_cluster(die_with_parent=True)
        before = haproxy.identity(lab.socket)
        show_slots(lab)
        with under_load(lab) as (load, sampler):
            heading("Clients: 4 writers and 2 readers, each with a new connection every 100 ms; 2 kept sessions")
            load.wait_served("write", lab.wait_writable(), 0, 30)
            say("rows are written through port 5000 and read through port 5001")
            fourth = add_node(lab, sampler)
            load.wait_served("read", fourth, 0, 30)
            begun, promoted = switch_over(lab, fourth)
            report_switch(load, sampler, fourth, begun, promoted)
            show_slots(lab)
            with waiting("the clients go on for a while"):
                time.sleep(2)
                load.stop()
            rows = report_clients(load)
            check_rows(lab, rows)
            report_haproxy(lab, before, sampler)
    finally:
        if FOLDER.exists():
            with interrupt.held():
                (lab or cluster.Lab.open(FOLDER)).destroy()
            say("everything is stopped and removed")


def report_haproxy(lab, before, sampler):
    after = haproxy.identity(lab.socket)
    last = sampler.stop()
    same = "the same process all along" if before == after else f"ANOTHER PROCESS than {before[0]}"
    say(f"HAProxy is process {after[0]}, {same}: no reload, no restart")
    wrong = sampler.violations()
    say(f"HAProxy's slots were sampled {last['samples']} times: "
        + ("never two ready in the primary pool" if not wrong else f"WRONG {len(wrong)} times: {wrong[0]}"))


def up():
    refuse_if_up()
    try:
        lab = start_cluster(die_with_parent=False)
        show_slots(lab)
    except BaseException:
        if FOLDER.exists():
            cluster.Lab.open(FOLDER).destroy()
        raise
    heading("It is yours")
    note(f"psql -h {lab.proxy_address} -p 5000 -U postgres      writes;  -p 5001 reads")
    note(f"logs and configuration files are in {FOLDER}")
    note("deploy/demo add | switchover | crash | slots | down")


def add():
    lab = opened()
    with under_load(lab) as (load, sampler):
        add_node(lab, sampler)
        load.stop()
        report_clients(load)
    show_slots(lab)


def switchover(name):
    lab = opened()
    leader = lab.wait_writable()
    target = find(lab, name) if name else next((node for node in reversed(lab.running_nodes())
                                                if node.name != leader.name), None)
    if target is None or target.name == leader.name:
        raise Refused(f"{leader.name} is the leader already" if target else "there is no other node: deploy/demo add")
    with under_load(lab) as (load, sampler):
        load.wait_served("write", leader, 0, 30)
        begun, promoted = switch_over(lab, target)
        report_switch(load, sampler, target, begun, promoted)
        load.stop()
        check_rows(lab, report_clients(load))
    show_slots(lab)


def crash(name):
    lab = opened()
    leader = lab.wait_writable()
    victim = find(lab, name) if name else leader
    if len(lab.running_nodes()) < 2:
        raise Refused("it is the only node: deploy/demo add")
    lab.wait_complete()
    with under_load(lab) as (load, _sampler):
        load.wait_served("write", leader, 0, 30)
        heading(f"kill -9 of {victim.name}, {'the leader' if victim.name == leader.name else 'a replica'}")
        begun = time.monotonic()
        lab.crash_node(victim)
        if victim.name == leader.name:
            with waiting("its lease in etcd expires, up to 30 s; writers wait in HAProxy"):
                until(lambda: lab.leader() and lab.leader().name != victim.name, 90, "the cluster has a new leader")
                new = lab.wait_writable()
            say(f"{new.name} is the new leader, {time.monotonic() - begun:.1f} s after the crash")
            wrote = load.wait_served("write", new, begun, 60)
            note(f"the first row was written {wrote - begun:.1f} s after the crash")
        lab.wait_in_step(60)
        load.stop()
        report_clients(load)
    lab.start_node(int(victim.name[4:]))
    with waiting(f"{victim.name} is started again and follows"):
        lab.wait_streaming(victim, seconds=120)
        lab.wait_in_step(30)
    say(f"{victim.name} is started again and a replica")
    show_slots(lab)


def slots():
    show_slots(opened())


def down():
    if not FOLDER.exists():
        raise Refused("nothing is running")
    cluster.Lab.open(FOLDER).destroy()
    say("everything is stopped and removed")


def refuse_if_up():
    if not FOLDER.exists():
        return
    if not (FOLDER / "lab.json").exists():
        raise Refused(f"{FOLDER} exists and is not the demonstration's; remove it first")
    if cluster.Lab.open(FOLDER).processes.running():
        raise Refused("a cluster is up already: use it, or end it with deploy/demo down")
    cluster.Lab.open(FOLDER).destroy()  # left by a machine that went down


def opened():
    if not (FOLDER / "lab.json").exists():
        raise Refused("no cluster is up: deploy/demo up")
    lab = cluster.Lab.open(FOLDER)
    gone = [name for name in ("etcd", "haproxy", "pointsman") if not lab.processes.pid(name)]
    if gone:
        raise Refused(f"{', '.join(gone)} died; see {FOLDER}/*.log, then deploy/demo down")
    return lab


def find(lab, name):
    node = next((node for node in lab.running_nodes() if node.name == name), None)
    if not node:
        raise Refused(f"no node '{name}' is running: " + ", ".join(node.name for node in lab.running_nodes()))
    return node


def arguments():
    parser = argparse.ArgumentParser(prog="deploy/demo", add_help=False, usage="see deploy/demo --help")
    parser.add_argument("command", nargs="?", default="story",
                        choices=["story", "up", "add", "switchover", "crash", "slots", "down"])
    parser.add_argument("--to", metavar="NODE")
    parser.add_argument("--node", metavar="NODE")
    given = parser.parse_args()
    if (given.to and given.command != "switchover") or (given.node and given.command != "crash"):
        parser.error("--to belongs to switchover, --node to crash")
    return given


@contextlib.contextmanager
def alone():
    """One demonstration at a time on a machine."""
    with open(LOCK, "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("another deploy/demo is at work on this machine; wait for it or end it") from None
        yield


def check_folder():
    """Root must not follow what somebody else put where everybody may write."""
    if FOLDER.is_symlink() or (FOLDER.exists() and FOLDER.stat().st_uid != 0):
        raise Refused(f"{FOLDER} is somebody else's; remove it first")


def main():
    given = arguments()
    if os.geteuid() != 0:
        raise Refused("run it as root: PostgreSQL must run as the user postgres")
    check_folder()
    interrupt.install()
    run = {"story": story, "up": up, "add": add, "slots": slots, "down": down,
           "switchover": lambda: switchover(given.to), "crash": lambda: crash(given.node)}[given.command]
    if given.command == "slots":
        run()
        return
    with alone():
        run()


if __name__ == "__main__":
    try:
        main()
    except (Refused, Late, RuntimeError, OSError) as error:
        sys.exit(f"deploy/demo: {error}")
    except interrupt.Interrupted as signal_name:
        print(f"\ndeploy/demo: {signal_name}", file=sys.stderr)
        sys.exit(130)
