"""Ctrl-C and SIGTERM as an exception that never tears a critical section apart."""

import contextlib
import signal


class Interrupted(BaseException):
    """A signal asked this program to end."""


_held = 0
_pending = None


def _on_signal(number, _frame):
    global _pending
    if _held:
        _pending = number
    else:
        raise Interrupted(signal.Signals(number).name)


def install():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)


@contextlib.contextmanager
def held():
    """Signals that arrive inside are raised at its end."""
    global _held, _pending
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    if not _held and _pending is not None:
        number, _pending = _pending, None
        raise Interrupted(signal.Signals(number).name)
