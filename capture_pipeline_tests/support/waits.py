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
    """Return once the condition holds, which is asked every `every_s`.

    AssertionError with `what` after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(every_s)
