"""Capture clock of the recorder: times that never decrease, and detection of steps of the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable


class CaptureClock:
    """`capture_ns = max(last + 1, anchor + monotonic)`, nanoseconds UTC.

    The anchor is the wall clock at the start of this process. A later step of the wall clock does not change
    the capture times; it is reported by `step_ns`.

    Attributes:
        behind_ns: Distance of the wall clock behind the last capture time of an earlier process; 0 if ahead.
    """

    def __init__(
        self,
        floor_ns: int = 0,
        *,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Set the anchor.

        Args:
            floor_ns: Last capture time of an earlier process; the next one is greater.
            wall: Wall clock in nanoseconds.
            monotonic: Monotonic clock in nanoseconds.
        """
        self._wall, self._monotonic = wall, monotonic
        now = wall()
        self.behind_ns = max(0, floor_ns + 1 - now)
        # If the wall clock is behind the last capture time, the capture clock continues from that time.
        self._anchor = now + self.behind_ns - monotonic()
        self._offset = -self.behind_ns
        self._last = floor_ns

    @property
    def last_ns(self) -> int:
        """Last capture time that was assigned."""
        return self._last

    def now_ns(self) -> int:
        """Return the current capture clock without assigning a time."""
        return self._anchor + self._monotonic()

    def stamp(self, now_ns: int) -> int:
        """Assign the next capture time: `now_ns`, or one more than the last one."""
        last = self._last + 1
        self._last = stamp = now_ns if now_ns > last else last  # noqa: FURB136 - `max` takes 3 times as long
        return stamp

    def step_ns(self, min_ns: int) -> int:
        """Return the wall clock's step since the last report; 0 below `min_ns`, positive if forward."""
        offset = self._wall() - self.now_ns()
        step = offset - self._offset
        if abs(step) < min_ns:
            return 0
        self._offset = offset
        return step
