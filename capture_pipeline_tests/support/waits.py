"""Waiting for a condition, with a limit."""

import time
from collections.abc import Callable


def wait_for(
    condition: Callable[[], bool],
    seconds: float = 60,
    what: str = "it takes too long",
    *,
    every_s: float = 0.05,
) -> None:
    """Return once the condition is true; evaluate it every `every_s` seconds.

    Raises:
        AssertionError: The condition is still false after `seconds`; the message is `what`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(every_s)
