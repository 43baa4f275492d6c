"""What keeps connections from delivering: kept for the status while it lasts, and told once when it begins and when it changes."""

from __future__ import annotations

import time
from collections.abc import Callable

from capture_pipeline.binance.http.pauses import HostGroup, Limits
from capture_pipeline.recorder.connections.connection import Connection
from capture_pipeline.sessions.models import Cause

_PATIENCE_S = 10.0
"""Order-book diffs come ten times a second: a recorder without a message for this long records nothing."""
_BRIEF_S = 1.0
"""What is over sooner is in the event log and worth no line to anybody."""
_EXPECTED = {Cause.LIFE, Cause.SHUTDOWN}


class ConnectionHealth:
    """The latest error of any connection, until all of them deliver again.

    Attributes:
        current: That error; empty while all is well.
    """

    def __init__(
        self, host: str, tell: Callable[[str], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Keep whom to tell.

        Args:
            host: What is connected to, for the text.
            tell: Takes a line.
            monotonic: Seconds that never go back.
        """
        self.current = ""
        self._host, self._tell, self._monotonic = host, tell, monotonic
        self._told, self._since_s = "", 0.0

    def ended(self, connection: Connection) -> None:
        """A connection ended, or never opened; an end that was planned is no trouble."""
        if connection.cause in _EXPECTED:
            return
        why = connection.detail or str(connection.cause or Cause.CLOSED)
        if connection.opened_s is None:
            text = f"cannot connect to {self._host}: {why}"
        else:
            text = f"connection to {self._host} lost: {connection.cause or Cause.CLOSED}, {why}"
        if not self.current:
            self._since_s = self._monotonic()
        self.current = text

    def look(self, *, is_whole: bool) -> None:
        """Tell what is new; to be called about each second.

        Args:
            is_whole: Whether every connection delivers.
        """
        if is_whole:
            if self._told:
                self._tell("every connection delivers again")
            self.current = self._told = ""
        elif self.current != self._told and self._monotonic() - self._since_s >= _BRIEF_S:
            self._told = self.current
            self._tell(self.current)


class RestPauses:
    """The pause of REST requests, reported once when it begins; a pause of streams is a trouble of connections.

    Attributes:
        current: Why no request may be sent, and until when; empty while requests may be sent.
    """

    def __init__(self, limits: Limits | None, tell: Callable[[str], None]) -> None:
        """Keep whom to ask and whom to tell.

        Args:
            limits: Of the address; None where the exchange has none.
            tell: Takes a line.
        """
        self.current = ""
        self._limits, self._tell = limits, tell

    def look(self) -> None:
        """Read the limits; to be called about each second."""
        pause = self._limits.pause(HostGroup.REST) if self._limits is not None else None
        before, self.current = self.current, f"REST: {pause.text}" if pause is not None else ""
        if self.current not in {"", before}:
            self._tell(self.current)


class FirstMessage:
    """Reports once that a recorder received nothing in its first ten seconds; it goes on trying."""

    def __init__(
        self, messages: int, report: Callable[[str], None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin to wait.

        Args:
            messages: Messages of streams before the recorder begins.
            report: Takes a line.
            monotonic: Seconds that never go back.
        """
        self._messages, self._report, self._monotonic = messages, report, monotonic
        self._since_s: float | None = None
        self._is_over = False

    def look(self, messages: int, *, is_due: bool, trouble: str) -> None:
        """Report if the time is over; to be called about each second.

        Args:
            messages: Messages of streams so far, counted as at the beginning.
            is_due: Whether recording has begun; before a planned start nothing comes.
            trouble: The latest error of a connection; empty without one.
        """
        if self._is_over or not is_due:
            return
        now_s = self._monotonic()
        self._since_s = now_s if self._since_s is None else self._since_s
        self._is_over = messages > self._messages
        if not self._is_over and now_s - self._since_s >= _PATIENCE_S:
            self._is_over = True
            why = trouble or "the connections are open and the exchange sends nothing"
            self._report(
                f"no message came within {_PATIENCE_S:g} s: {why}; recording goes on trying, capture preflight looks for the cause"
            )
