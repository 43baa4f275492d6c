"""Rules for connections without data: when to send a ping, and when to replace one. Sans-I/O.

A quiet contract sends nothing for minutes, and so does a connection whose peer is gone. Three rules
distinguish these cases:

- After half of the limit, a ping is sent. A peer that sends nothing until the limit, not even the answer to
  the ping, is gone.
- Other connections to the same address carry the same streams, so each has to deliver what one of them
  delivers.
- If all are silent and answer pings, the usual pauses decide. One connection is replaced after four times the
  longest recent pause. If its successor is silent too, the wait doubles. Until enough messages are known, the
longest allowed pause is assumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

_PAUSES = 4
"""A silence longer than this many times the longest pause is suspicious."""
_KNOWN_AFTER = 100
"""Calls that found new messages before the pauses count as known; a busy book reaches it in two minutes."""
_MAX_LIMITS = 450
"""Longest wait, in units of the limit: one hour for a limit of 8 s. Pauses older than once or twice this time
are forgotten."""


class Line(Protocol):
    """Connection as the rules see it; all times are monotonic seconds.

    Attributes:
        number: Number of the connection.
        messages: Count of received messages.
        last_s: Time of the last message, or of the opening.
        last_bytes_s: Time of the last received bytes, or of the opening.
        pinged_s: Time of the last sent ping; None before the first one.
    """

    number: int
    messages: int
    last_s: float
    last_bytes_s: float
    pinged_s: float | None


L = TypeVar("L", bound=Line)


class SilentLine(NamedTuple, Generic[L]):
    """A connection, and the reason to replace it; an empty reason requests a ping."""

    line: L
    reason: str


class _Lag(NamedTuple):
    """Time of the last message, and since when another connection is ahead; infinite if none is."""

    last_s: float
    since_s: float


class Silence:
    """Rules for all connections to one address."""

    def __init__(self, limit_s: float) -> None:
        """Start without known pauses.

        Args:
            limit_s: Longest time without received bytes.
        """
        self._limit_s, self._max_s = limit_s, limit_s * _MAX_LIMITS
        self._behind: dict[int, _Lag] = {}
        self._newest_s: float | None = None
        self._since_s: float | None = None
        self._pause_s = self._earlier_pause_s = 0.0
        self._turned_s: float | None = None
        self._looked_s: float | None = None
        self._looks = self._tries = 0

    def check(self, lines: Sequence[L], now_s: float) -> Iterator[SilentLine[L]]:
        """Check the open connections; call it several times within the limit.

        A late call finds no fault: this process was delayed, and the messages of that time are not read yet.

        Args:
            lines: Connections to this address that are not being replaced, oldest first.
            now_s: Monotonic time.
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
                yield SilentLine(one, faults[one.number])
            elif now_s - max(one.last_bytes_s, one.pinged_s or 0.0) > self._limit_s / 2:
                yield SilentLine(one, "")

    def _learn(self, lines: Sequence[Line], now_s: float) -> None:
        newest_s = max((one.last_s for one in lines if one.messages), default=None)
        if self._since_s is None or self._turned_s is None:
            self._since_s = self._turned_s = now_s
        if now_s - self._turned_s > self._max_s:
            self._turned_s, self._earlier_pause_s, self._pause_s = now_s, self._pause_s, 0.0
        if newest_s is not None and (self._newest_s is None or newest_s > self._newest_s):
            if self._newest_s is not None:
                self._pause_s = max(self._pause_s, newest_s - self._newest_s)
                self._looks += 1
            self._newest_s = self._since_s = newest_s
            self._tries = 0
        self._behind = {one.number: self._behind_since(one, now_s) for one in lines}

    def _behind_since(self, one: Line, now_s: float) -> _Lag:
        last_s, since_s = self._behind.get(one.number, _Lag(one.last_s, float("inf")))
        is_behind = self._newest_s is not None and self._newest_s - one.last_s > self._limit_s / 2
        is_same = is_behind and last_s == one.last_s
        return _Lag(one.last_s, min(since_s, now_s) if is_same else float("inf"))

    def _patience_s(self) -> float:
        """Return the longest time for which all connections may be silent together, seconds."""
        if self._looks < _KNOWN_AFTER:
            return self._max_s
        known_s = max(self._limit_s, _PAUSES * max(self._pause_s, self._earlier_pause_s))
        return min(self._max_s, known_s * float(1 << min(self._tries, 30)))

    def _fault(self, one: Line, now_s: float) -> str:
        if one.pinged_s is not None and one.last_bytes_s < one.pinged_s < now_s - self._limit_s / 2:
            return f"nothing was received for {now_s - one.last_bytes_s:.1f} s, not even the answer to a ping"
        if now_s - self._behind[one.number].since_s > self._limit_s / 2:
            return f"no data for {now_s - one.last_s:.1f} s, while another connection received data"
        return ""
