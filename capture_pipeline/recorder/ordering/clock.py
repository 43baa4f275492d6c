"""The recorder's clock: stamps that never decrease, whatever the wall clock does, and the evidence of what it did."""

from __future__ import annotations

import time
from collections.abc import Callable


class CaptureClock:
    """`capture_ns = max(last + 1, anchor + monotonic)`, nanoseconds UTC.

    The anchor is the wall clock at the start of this process; a step of the wall clock afterwards moves no stamp and is told instead.

    Attributes:
        behind_ns: How far the wall clock was behind the last stamp of an earlier process when this one began; 0 if it was not.
    """

    def __init__(
        self,
        floor_ns: int = 0,
        *,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Anchor it.

        Args:
            floor_ns: Last stamp of an earlier process; the next one is greater.
            wall: Wall clock, nanoseconds.
            monotonic: A clock that is never set, nanoseconds.
        """
        self._wall, self._monotonic = wall, monotonic
        now = wall()
        self.behind_ns = max(0, floor_ns + 1 - now)
        # From behind the last stamp time goes on from there, at its own pace.
        self._anchor = now + self.behind_ns - monotonic()
        self._offset = -self.behind_ns
        self._last = floor_ns

    @property
    def last_ns(self) -> int:
        """The last stamp given."""
        return self._last

    def now_ns(self) -> int:
        """The time, without giving a stamp."""
        return self._anchor + self._monotonic()

    def stamp(self, now_ns: int) -> int:
        """The next stamp, at the time `now_ns` gave or just behind the last one."""
        last = self._last + 1
        self._last = stamp = now_ns if now_ns > last else last  # noqa: FURB136 - a call of `max` takes thrice as long
        return stamp

    def step_ns(self, least_ns: int) -> int:
        """How far the wall clock was stepped since this was last told, 0 if by less than `least_ns`; positive is forward."""
        offset = self._wall() - self.now_ns()
        step = offset - self._offset
        if abs(step) < least_ns:
            return 0
        self._offset = offset
        return step
