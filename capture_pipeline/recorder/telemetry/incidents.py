"""Incidents of a recording: connections that open and end, announced shutdowns, bad messages, clock steps.

Each incident is an event in the log and a count in the statistics. If ids may be lost, it is also an outage
that the ledger names as the cause of gaps.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from capture_pipeline.recorder.connections.connection import Connection
from capture_pipeline.recorder.ordering.gap_tracker import Outage
from capture_pipeline.recorder.ordering.merger import Message
from capture_pipeline.recorder.pipeline import RecordingPipeline
from capture_pipeline.recorder.storage.event_log import EventLog
from capture_pipeline.sessions.models import ENDED_BY, Cause

_MAX_KEPT = 1000
_KEPT_BYTES = 64 << 10


class Incidents:
    """Turns incidents into events, counts and outages."""

    def __init__(
        self,
        pipeline: RecordingPipeline,
        events: EventLog,
        live: Callable[[], int],
        is_ending: Callable[[], bool],
    ) -> None:
        """Start without an outage.

        Args:
            pipeline: Pipeline whose merge, ledger and counts are updated.
            events: Event log.
            live: Returns the count of open connections.
            is_ending: Returns whether the session ends; then a closed connection is not an incident.
        """
        self._pipeline, self._events, self._live, self._is_ending = pipeline, events, live, is_ending
        self._down: Outage | None = None
        self._kept: dict[str, int] = {}

    def record_open(self, connection: Connection) -> None:
        """Record an opened connection."""
        now = self._pipeline.clock.now_ns()
        self._pipeline.merge.add_connection(connection.number)
        if self._down is not None:
            self._down.end_ns, self._down = now, None
        self._events.write(now, "connection_opened", connection=connection.number, slot=connection.slot)

    def record_end(self, connection: Connection) -> None:
        """Record a connection that ended or could not be opened."""
        now = self._pipeline.clock.now_ns()
        self._pipeline.merge.remove_connection(connection.number)
        cause, detail = connection.cause or Cause.CLOSED, connection.detail
        details = {
            "connection": connection.number,
            "cause": cause,
            "detail": detail,
            "messages": connection.messages,
        }
        if connection.opened_s is None:
            self._events.write(now, "connection_refused", **details)
            return
        if not self._is_ending():
            self._count(f"{ENDED_BY}{cause}")
            is_total = not self._live()
            outage = self._pipeline.ledger.begin(
                Outage(cause, detail, now, None if is_total else now, is_total)
            )
            self._down = outage if is_total else self._down
        self._events.write(now, "connection_ended", **details)

    def record_shutdown(self, number: int) -> None:
        """Record that the exchange announced the close of a connection."""
        self._events.write(self._pipeline.clock.now_ns(), "serverShutdown", connection=number)

    def record_rejected_message(self, reason: str, raw: bytes) -> None:
        """Log a message that cannot be a line; only the first ones, because a changed format affects all."""
        self._keep("rejected_message", raw, reason=reason)

    def record_stray_message(self, message: Message) -> None:
        """Log a message that has no place in its stream: lower ids with a later time and no new count."""
        ids = {"stream": message.stream, "first": message.first, "last": message.last}
        self._keep("stray_message", message.raw, **ids)

    def _keep(self, kind: str, raw: bytes, **details: object) -> None:
        self._kept[kind] = self._kept.get(kind, 0) + 1
        if self._kept[kind] <= _MAX_KEPT:
            kept = base64.b64encode(raw[:_KEPT_BYTES]).decode()
            self._events.write(self._pipeline.clock.now_ns(), kind, **details, base64=kept)

    def record_clock_lag(self) -> None:
        """Log a wall clock that is behind the last capture time of an earlier process."""
        behind = self._pipeline.clock.behind_ns
        if behind:
            self._count("clock_steps")
            self._events.write(
                self._pipeline.clock.now_ns(),
                "clock_step",
                step_ms=-behind / 1e6,
                since="the recorder before",
            )

    def record_suspects(self, segments: list[str]) -> None:
        """Log parts of the recording whose fsync failed, once each."""
        known = self._pipeline.counts.get("suspect_segments", 0)
        for segment in segments[known:]:
            self._count("suspect_segments")
            self._events.write(self._pipeline.clock.now_ns(), "fsync_failed", segment=segment)

    def check_clock(self, min_ns: int) -> None:
        """Log a step of the wall clock."""
        step = self._pipeline.clock.step_ns(min_ns)
        if step:
            self._count("clock_steps")
            self._events.write(self._pipeline.clock.now_ns(), "clock_step", step_ms=step / 1e6)

    @property
    def reconnects(self) -> dict[str, int]:
        """Ends of connections by cause, over all processes of the session."""
        counts = self._pipeline.counts
        return {
            name.removeprefix(ENDED_BY): count for name, count in counts.items() if name.startswith(ENDED_BY)
        }

    def _count(self, name: str) -> None:
        self._pipeline.counts[name] = self._pipeline.counts.get(name, 0) + 1
