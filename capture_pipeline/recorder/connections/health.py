"""Reports of connection errors: each is shown in the status while it lasts and logged once per change."""

from __future__ import annotations

import time
from collections.abc import Callable

from capture_pipeline.binance.http.pauses import HostGroup, Limits
from capture_pipeline.recorder.events import (
    ConnectionClosed,
    ConnectionRefused,
    EndRequested,
    EventBus,
    NothingCame,
    RestPaused,
)
from capture_pipeline.sessions.models import Cause

_PATIENCE_S = 10.0
"""Seconds; diffs come ten times a second, so a recorder without a message for this long receives nothing."""
_BRIEF_S = 1.0
"""Seconds; a shorter failure is only in the event log."""
_EXPECTED = {Cause.LIFE, Cause.SHUTDOWN}


class ConnectionHealth:
    """Latest error of any connection, until all of them deliver messages again.

    Attributes:
        current: The error; empty without one.
    """

    def __init__(
        self,
        host: str,
        events: EventBus,
        report: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without an error.

        Args:
            host: Address for the text of an error.
            events: Source of the ends of connections; those after `EndRequested` are no errors.
            report: Receives a line to report.
            monotonic: Monotonic clock in seconds.
        """
        self.current = ""
        self._host, self._report, self._monotonic = host, report, monotonic
        self._reported, self._since_s, self._is_ending = "", 0.0, False
        events.subscribe(ConnectionClosed, self._note_closed)
        events.subscribe(ConnectionRefused, self._note_refused)
        events.subscribe(EndRequested, self._note_end)

    def _note_closed(self, event: ConnectionClosed) -> None:
        if event.cause not in _EXPECTED:
            self._set_error(
                f"connection to {self._host} lost: {event.cause}, {event.detail or str(event.cause)}"
            )

    def _note_refused(self, event: ConnectionRefused) -> None:
        if event.cause not in _EXPECTED:
            self._set_error(f"cannot connect to {self._host}: {event.detail or str(event.cause)}")

    def _note_end(self, _: EndRequested) -> None:
        self._is_ending = True

    def _set_error(self, text: str) -> None:
        if self._is_ending:
            return
        if not self.current:
            self._since_s = self._monotonic()
        self.current = text

    def report_changes(self, *, is_whole: bool) -> None:
        """Report a new error or the recovery; call it about once a second.

        Args:
            is_whole: Whether every connection delivers messages.
        """
        if is_whole:
            if self._reported:
                self._report("every connection delivers again")
            self.current = self._reported = ""
        elif self.current != self._reported and self._monotonic() - self._since_s >= _BRIEF_S:
            self._reported = self.current
            self._report(self.current)


class RestPauses:
    """Reports the start of a pause of REST requests; `ConnectionHealth` reports a pause of streams.

    Attributes:
        current: Reason and end of the pause; empty without one.
    """

    def __init__(self, limits: Limits | None, events: EventBus) -> None:
        """Start without a pause.

        Args:
            limits: Limits of the address; None if the exchange has none.
            events: Receives the start of each pause.
        """
        self.current = ""
        self._limits, self._events = limits, events

    def report_changes(self) -> None:
        """Read the limits and report a new pause; call it about once a second."""
        pause = self._limits.pause(HostGroup.REST) if self._limits is not None else None
        before, self.current = self.current, f"REST: {pause.text}" if pause is not None else ""
        if self.current not in {"", before}:
            self._events.publish(RestPaused(self.current))


class FirstMessage:
    """Reports once if a recorder received nothing in its first ten seconds; the recorder continues to try."""

    def __init__(
        self, messages: int, events: EventBus, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Start to wait for the first message.

        Args:
            messages: Count of stream messages before the recorder begins.
            events: Receives the report.
            monotonic: Monotonic clock in seconds.
        """
        self._messages, self._events, self._monotonic = messages, events, monotonic
        self._since_s: float | None = None
        self._is_over = False

    def report_changes(self, messages: int, *, is_due: bool, trouble: str) -> None:
        """Report if the time has passed; call it about once a second.

        Args:
            messages: Count of stream messages so far.
            is_due: Whether recording has begun; before a planned start no messages are expected.
            trouble: Latest error of a connection; empty without one.
        """
        if self._is_over or not is_due:
            return
        now_s = self._monotonic()
        self._since_s = now_s if self._since_s is None else self._since_s
        self._is_over = messages > self._messages
        if not self._is_over and now_s - self._since_s >= _PATIENCE_S:
            self._is_over = True
            why = trouble or "the connections are open and the exchange sends nothing"
            text = (
                f"no message was received within {_PATIENCE_S:g} s: {why}; the recorder continues to try; "
                "run `capture session preflight` to find the cause"
            )
            self._events.publish(NothingCame(text))
