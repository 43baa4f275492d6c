"""How many messages a second come: by counts and the time in between, so that it does not depend on when anybody asks or writes."""

from __future__ import annotations

from collections import deque

WINDOW_S = 5.0
_LEAST_S = 0.2


class Rate:
    """A rate over the last `WINDOW_S`, or since messages could first come where that is less. Is given times and counts; holds no clock."""

    def __init__(self) -> None:
        """Start before anything can come."""
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self, now_s: float, count: int) -> None:
        """A connection opened: the first one begins the time that is counted."""
        if not self._samples:
            self._samples.append((now_s, count))

    def see(self, now_s: float, count: int) -> None:
        """Note the count so far, about each second; nothing before `begin`."""
        samples = self._samples
        if not samples:
            return
        samples.append((now_s, count))
        # The newest sample that is as old as the window stays: it is where the window begins.
        while len(samples) > 1 and now_s - samples[1][0] >= WINDOW_S:
            samples.popleft()

    def per_s(self, now_s: float, count: int) -> float:
        """Messages a second up to now; 0 only where none came."""
        if not self._samples:
            return 0.0
        old = [sample for sample in self._samples if now_s - sample[0] >= WINDOW_S]
        since_s, before = old[-1] if old else self._samples[0]
        return round((count - before) / max(now_s - since_s, _LEAST_S), 2)
