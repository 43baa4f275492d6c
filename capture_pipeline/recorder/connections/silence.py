"""When a connection without data is replaced, and when it is asked for a sign of life. Sans-I/O: no socket and no clock.

A quiet contract sends nothing for minutes, and so does a connection whose other end is gone. They are told apart in three ways:

- A ping after half of the limit. A peer that sends nothing at all until the limit, not even the answer, is gone.
- The other connections to the same address carry the same streams: what one of them brings, each has to bring.
- Where all are silent and answer pings, their own rhythm: one of them is replaced after four times the longest pause that was seen
  lately. If its successor is as silent, the wait doubles. A rhythm that is hardly known is assumed to have the longest pauses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

_PAUSES = 4
"""A silence of so many times the longest pause is suspicious."""
_KNOWN_AFTER = 100
"""Looks that found new messages, before the rhythm is known; a book that changes all the time gets there within two minutes."""
_LONGEST_LIMITS = 450
"""No wait is longer than so many limits, an hour for a limit of 8 s; a pause is forgotten after one or two times this long."""


class Line(Protocol):
    """A connection as it is judged; times are monotonic seconds.

    Attributes:
        number: Which.
        messages: How many came.
        last_s: When the last message came, or when it was opened.
        last_bytes_s: When bytes of any kind came last, or when it was opened.
        pinged_s: When a ping was sent last; None before.
    """

    number: int
    messages: int
    last_s: float
    last_bytes_s: float
    pinged_s: float | None


L = TypeVar("L", bound=Line)


class Silence:
    """The rule for all connections to one address."""

    def __init__(self, limit_s: float) -> None:
        """Know nothing of the rhythm.

        Args:
            limit_s: Longest time without a sign of life.
        """
        self._limit_s, self._most_s = limit_s, limit_s * _LONGEST_LIMITS
        self._behind: dict[int, tuple[float, float]] = {}
        self._newest_s: float | None = None
        self._since_s: float | None = None
        self._pause_s = self._earlier_pause_s = 0.0
        self._turned_s: float | None = None
        self._looked_s: float | None = None
        self._looks = self._tries = 0

    def look(self, lines: Sequence[L], now_s: float) -> Iterator[tuple[L, str]]:
        """Judge the open connections; to be called several times within the limit.

        A look that comes late finds none at fault: this process was held up, and what came meanwhile is not read yet.

        Args:
            lines: Those to this address that are not being replaced, oldest first.
            now_s: Monotonic seconds.

        Yields:
            A connection and why it is to be replaced; the text is empty where it is to be sent a ping.
        """
        is_late = self._looked_s is not None and now_s - self._looked_s > self._limit_s / 4
        self._looked_s = now_s
        if not lines or is_late:
            return
        self._learn(lines, now_s)
        silent_s = now_s - (self._since_s or 0.0)
        faults = {one.number: self._fault(one, now_s) for one in lines}
        if silent_s > self._patience_s() and not any(faults.values()):
            self._tries, self._since_s = self._tries + 1, now_s
            faults[lines[0].number] = f"no data for {silent_s:.0f} s on any connection; pings are answered"
        for one in lines:
            if faults[one.number]:
                yield one, faults[one.number]
            elif now_s - max(one.last_bytes_s, one.pinged_s or 0.0) > self._limit_s / 2:
                yield one, ""

    def _learn(self, lines: Sequence[Line], now_s: float) -> None:
        newest_s = max((one.last_s for one in lines if one.messages), default=None)
        if self._since_s is None or self._turned_s is None:
            self._since_s = self._turned_s = now_s
        if now_s - self._turned_s > self._most_s:
            self._turned_s, self._earlier_pause_s, self._pause_s = now_s, self._pause_s, 0.0
        if newest_s is not None and (self._newest_s is None or newest_s > self._newest_s):
            if self._newest_s is not None:
                self._pause_s = max(self._pause_s, newest_s - self._newest_s)
                self._looks += 1
            self._newest_s = self._since_s = newest_s
            self._tries = 0
        self._behind = {one.number: self._behind_since(one, now_s) for one in lines}

    def _behind_since(self, one: Line, now_s: float) -> tuple[float, float]:
        """Return the last message of a connection, and since when another one has brought a later one; infinite where none has."""
        last_s, since_s = self._behind.get(one.number, (one.last_s, float("inf")))
        is_behind = self._newest_s is not None and self._newest_s - one.last_s > self._limit_s / 2
        return one.last_s, min(since_s, now_s) if is_behind and last_s == one.last_s else float("inf")

    def _patience_s(self) -> float:
        """How long all connections may be silent together."""
        if self._looks < _KNOWN_AFTER:
            return self._most_s
        known_s = max(self._limit_s, _PAUSES * max(self._pause_s, self._earlier_pause_s))
        return min(self._most_s, known_s * float(1 << min(self._tries, 30)))

    def _fault(self, one: Line, now_s: float) -> str:
        if one.pinged_s is not None and one.last_bytes_s < one.pinged_s < now_s - self._limit_s / 2:
            return f"nothing came for {now_s - one.last_bytes_s:.1f} s, not even the answer to a ping"
        if now_s - self._behind[one.number][1] > self._limit_s / 2:
            return f"no data for {now_s - one.last_s:.1f} s, while another connection brought some"
        return ""
