"""What the nodes and etcd themselves say, every few milliseconds: what everything else is measured against."""

import threading
import time


class Observer:
    """Asks one question in a thread and keeps the times at which the answer changed."""

    def __init__(self, question, period=0.02):
        self.question = question
        self.period = period
        self.changes = []  # (time, answer)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._ending.wait(self.period):
            answer = self.question()
            if not self.changes or self.changes[-1][1] != answer:
                self.changes.append((time.monotonic(), answer))

    def first(self, wanted, since=0.0):
        """When the answer was first as wanted after `since`, or None."""
        return next((at for at, answer in list(self.changes) if at >= since and wanted(answer)), None)

    def stop(self):
        self._ending.set()
        self._thread.join(5)


def fit_replica(node):
    return Observer(node.fit_replica)


def running_primary(node):
    """True, False, or None where the node does not answer."""
    def question():
        status, body = node.get("/primary", timeout=1)
        return None if status is None else (
            status == 200 and body.get("state") == "running" and body.get("role") in ("master", "primary"))
    return Observer(question)


def leader_key(lab):
    def question():
        try:
            return lab.etcd.get(lab.key("leader"))
        except OSError:
            return None
    return Observer(question)
