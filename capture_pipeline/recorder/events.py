"""Events of a recorder, and the bus that passes them from the part that publishes to the parts that consume.

Events are rare. Messages of the streams do not pass through the bus: their path is `pipeline`. The fields of
a `LoggedEvent` are the values of its line in `events.jsonl`, and its tag is the name in that line.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from capture_pipeline.recorder.ordering.stream_buffer import Message
from capture_pipeline.sessions.models import Cause, Gap, RefillState

MAX_RAW_BYTES = 64 << 10
"""Largest part of a message in the event log."""


class Outcome(StrEnum):
    """End of a recorder."""

    COMPLETE = "complete"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    """The session can be resumed until its planned end."""


class Event(msgspec.Struct, frozen=True):
    """Occurrence in a recorder."""


class EndRequested(Event, frozen=True):
    """Request to end the recording; connections that end afterwards are no incidents."""

    outcome: Outcome


class LoggedEvent(Event, frozen=True, tag_field="event", omit_defaults=True):
    """Event with a line in the event log."""

    def line(self) -> dict[str, Any]:
        """Return the name and the values of the line; a `capture_ns` replaces the time of the publication."""
        line: dict[str, Any] = msgspec.to_builtins(self)
        return line


class ReportedEvent(LoggedEvent, frozen=True):
    """Event whose text is also shown to the user."""

    what: str


class RecorderStarted(LoggedEvent, frozen=True, tag="recorder_started"):
    """Start of the process."""

    pid: int
    connections: int


class RecorderEnded(LoggedEvent, frozen=True, tag="recorder_ended"):
    """End of the recording; `written` says whether every message is on the disk."""

    outcome: Outcome
    written: bool


class RecordingRepaired(LoggedEvent, frozen=True, tag="mended"):
    """Repair of the recording before it is continued or finished."""

    what: str


class MetricsFailed(LoggedEvent, frozen=True, tag="metrics_failed"):
    """Port of the metrics that cannot be opened."""

    port: int
    error: str | None


class ConnectionOpened(LoggedEvent, frozen=True, tag="connection_opened"):
    """Connection that can deliver messages."""

    connection: int
    slot: int


class _ConnectionEnd(LoggedEvent, frozen=True):
    connection: int
    cause: Cause
    detail: str
    messages: int


class ConnectionClosed(_ConnectionEnd, frozen=True, tag="connection_ended"):
    """End of a connection that was open."""


class ConnectionRefused(_ConnectionEnd, frozen=True, tag="connection_refused"):
    """Attempt to connect that failed."""


class ShutdownAnnounced(LoggedEvent, frozen=True, tag="serverShutdown"):
    """Notice of the exchange that it is about to close a connection."""

    connection: int


class MessageRejected(LoggedEvent, frozen=True, tag="rejected_message"):
    """Message that cannot be a line of the recording."""

    reason: str
    raw: bytes = msgspec.field(name="base64")


class StrayMessageFound(LoggedEvent, frozen=True, tag="stray_message"):
    """Message without a place in its stream: lower ids with a later time, and no new count."""

    stream: str
    first: int
    last: int
    raw: bytes = msgspec.field(name="base64")

    @classmethod
    def of(cls, message: Message) -> StrayMessageFound:
        """Create the event of a message."""
        return cls(message.stream, message.first, message.last, message.raw[:MAX_RAW_BYTES])


class DiffMalformed(LoggedEvent, frozen=True, tag="malformed_diff"):
    """Recorded diff whose levels cannot be parsed."""

    symbol: str
    error: str


class GapFound(LoggedEvent, frozen=True, tag="gap"):
    """Gap before a message that goes to the writer; its line has the time of that message."""

    gap: Gap

    def line(self) -> dict[str, Any]:
        """Return the line of the gap ledger."""
        return {"capture_ns": self.gap.end_ns, "event": "gap", **self.gap.model_dump(mode="json")}


class ClockStepped(LoggedEvent, frozen=True, tag="clock_step"):
    """Step of the wall clock; positive if forward.

    Attributes:
        since: Name of the earlier process if the wall clock is behind its last capture time; else None.
    """

    step_ms: float
    since: str | None = None


class FsyncFailed(LoggedEvent, frozen=True, tag="fsync_failed"):
    """Part of the recording whose content on the disk is unknown."""

    segment: str


class RecordingAltered(ReportedEvent, frozen=True, tag="recording_altered"):
    """Part of the recording that another program removed or altered."""


class AccountDiffers(ReportedEvent, frozen=True, tag="account_differs"):
    """Received messages that are neither recorded nor accounted for."""


class RestPaused(ReportedEvent, frozen=True, tag="rest_paused"):
    """Start of a pause of REST requests."""


class NothingCame(ReportedEvent, frozen=True, tag="nothing_came"):
    """Recorder without a message some seconds after its start."""


class SnapshotRecorded(LoggedEvent, frozen=True, tag="snapshot"):
    """Snapshot of a book that is a line of the recording, with its capture time."""

    capture_ns: int
    symbol: str
    reason: str


class SnapshotOutdated(LoggedEvent, frozen=True, tag="snapshot_too_old"):
    """Snapshot that is older than the buffered diffs."""

    symbol: str
    reason: str


class SnapshotFailed(LoggedEvent, frozen=True, tag="snapshot_failed"):
    """Request for a snapshot that failed."""

    symbol: str
    reason: str
    error: str


class BookAudited(LoggedEvent, frozen=True, tag="audit"):
    """Comparison of a live book with a snapshot."""

    result: dict[str, Any]

    def line(self) -> dict[str, Any]:
        """Return the values of the comparison."""
        return {"event": "audit", **self.result}


class ClockSampled(LoggedEvent, frozen=True, tag="clock_sample"):
    """Offset of the exchange's clock and round trip of the request."""

    capture_ns: int
    offset_ms: float
    round_trip_ms: float


class ClockSampleFailed(LoggedEvent, frozen=True, tag="clock_sample_failed"):
    """Request for the exchange's time that failed."""

    error: str


class RefillAttempted(LoggedEvent, frozen=True, tag="refill"):
    """Request of all pages of a gap; `after` is its last good id."""

    stream: str
    after: int
    filled: bool
    ids_refilled: int


class RefillFailed(LoggedEvent, frozen=True, tag="refill_failed"):
    """Request of the pages of a gap that failed."""

    stream: str
    after: int
    error: str


class RefillEnded(LoggedEvent, frozen=True, tag="refill_ended"):
    """End of the requests for a gap whose ids are not complete."""

    stream: str
    after: int
    state: RefillState
    ids_refilled: int


E = TypeVar("E", bound=Event)


class EventBus:
    """Synchronous list of handlers by the type of their events."""

    def __init__(self) -> None:
        """Start without handlers."""
        self._handlers: list[tuple[type[Event], Callable[[Any], None]]] = []

    def subscribe(self, kind: type[E], handler: Callable[[E], None]) -> None:
        """Add a handler of all events of a type and its subtypes."""
        self._handlers.append((kind, handler))

    def publish(self, event: Event) -> None:
        """Call the handlers of an event, in the order of their subscriptions; an exception is passed on."""
        for kind, handler in self._handlers:
            if isinstance(event, kind):
                handler(event)
