"""Sessions in the workers that reloads have left behind: with a demoted node they are cut, with others they are not (R9, R10)."""

import select
import threading
import time

import scenario
from lab import clients, proxy
from lab.observer import leader_key
from lab.wait import until

CUT_WITHIN = 1.0  # seconds from the new leader key


class Kept:
    """A session through HAProxy that nothing is asked of: its end, once it is cut, is seen at once."""

    def __init__(self, test, port, node):
        self.ended = None
        while True:  # until HAProxy's turn comes to this node
            self.connection = clients.connect(test.lab.proxy_address, port, connect_timeout=10)
            if self.ask("SELECT host(inet_server_addr())") == node.address:
                break
            self.connection.close()
        test.addCleanup(self.close)
        threading.Thread(target=self._watch, daemon=True).start()

    def ask(self, statement):
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0]

    def _watch(self):
        select.select([self.connection], [], [])
        self.ended = time.monotonic()

    def close(self):
        self.connection.close()


class OldWorkers(scenario.Scenario):
    haproxy_way = proxy.MASTER
    with_master_socket = True

    def test_demotion(self):
        clients.create_ledger(self.lab.leader())
        self.demote("switchover", lambda old, new: self.lab.switchover(new))
        self.demote("crash of Patroni alone, whose PostgreSQL runs on",
                    lambda old, new: self.lab.crash_node(old, patroni_only=True))

    def demote(self, what, change):
        self.lab.wait_complete()
        self.lab.wait_in_step(30)
        old = self.lab.wait_writable()
        others = [node for node in self.lab.nodes() if node.name != old.name]
        writing = [Kept(self, 5000, old)]
        reading = [Kept(self, 5001, node) for node in others]
        self.reload()
        writing.append(Kept(self, 5000, old))
        self.reload()
        workers = len(self.lab.proxy.pids()) - 2
        self.assertEqual(2, workers, "old workers that hold sessions")
        key = leader_key(self.lab)
        self.addCleanup(key.stop)

        begun = time.monotonic()
        change(old, others[0])
        moved = until(lambda: key.first(lambda name: name not in (None, old.name), begun), 60, "a new leader key",
                      every=0.01)
        key.stop()
        until(lambda: all(session.ended for session in writing), 10, f"the sessions on {old.name} are cut")
        cut = max(session.ended for session in writing) - moved
        self.figure(f"{what}: sessions in {workers} old workers cut {1000 * cut:+.0f} ms from the new leader key")
        self.assertLess(cut, CUT_WITHIN)
        if not self.lab.processes.pid(old.name):
            self.lab.start_node(int(old.name[4:]))
        self.lab.wait_complete()
        self.lab.wait_in_step(30)
        for session, node in zip(reading, others):
            self.assertIsNone(session.ended, f"the session on {node.name}, which was not demoted, lives on")
            self.assertEqual(1, session.ask("SELECT 1"))
            session.close()

    def reload(self):
        before = self.lab.proxy.identity()
        self.lab.proxy.reload()
        until(lambda: self.lab.proxy.identity() not in (None, before), 10, "the new worker answers")
        self.lab.wait_in_step()


if __name__ == "__main__":
    scenario.main()
