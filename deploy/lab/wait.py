"""Waiting for conditions, always with a deadline."""

import time


class Late(Exception):
    """A condition did not come true in time."""


def until(condition, seconds, what, every=0.05):
    """Returns the first true value of condition(), asked every so often for so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Late(f"{what}: not within {seconds} s")
        time.sleep(every)
