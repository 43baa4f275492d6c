"""Message rate from counts and times, independent of the times at which it is read."""

from __future__ import annotations

from collections import deque

WINDOW_S = 5.0
_MIN_S = 0.2


class Rate:
    """Rate over the last `WINDOW_S`, or since the first connection if that is shorter; without a clock."""

    def __init__(self) -> None:
        """Start without a sample."""
        self._samples: deque[tuple[float, int]] = deque()

    def begin(self, now_s: float, count: int) -> None:
        """Start the measured time at the first open connection; later calls have no effect."""
        if not self._samples:
            self._samples.append((now_s, count))

    def add_sample(self, now_s: float, count: int) -> None:
        """Add the current count, about once a second; without effect before `begin`."""
        samples = self._samples
        if not samples:
            return
        samples.append((now_s, count))
        # The newest sample that is as old as the window is the start of the window.
        while len(samples) > 1 and now_s - samples[1][0] >= WINDOW_S:
            samples.popleft()

    def per_s(self, now_s: float, count: int) -> float:
        """Return the messages per second up to now; 0 only if no message came."""
        if not self._samples:
            return 0.0
        old = [sample for sample in self._samples if now_s - sample[0] >= WINDOW_S]
        since_s, before = old[-1] if old else self._samples[0]
        return round((count - before) / max(now_s - since_s, _MIN_S), 2)
