"""Models of the files of a session: plan, gap ledger, checkpoint, metadata."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Int64 = Annotated[int, Field(ge=-(1 << 63), le=(1 << 63) - 1)]
"""Range of ids, counts and nanoseconds."""
TimeUs = Annotated[int, Field(ge=0, le=7_258_118_400_000_000)]
"""Microseconds UTC, up to the year 2200."""
Seconds = Annotated[float, Field(gt=0, le=1e9)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Cause(StrEnum):
    """Reason for missing ids."""

    LIFE = "connection life"
    """A connection reached the age at which the exchange ends it."""
    SHUTDOWN = "serverShutdown"
    SILENCE = "silence"
    CLOSED = "connection closed"
    PROTOCOL = "protocol error"
    """The connection was ended because the peer violated the WebSocket protocol."""
    PROCESS = "process down"
    DISK = "disk"
    FILE_REMOVED = "file removed"
    """A part of the recording was removed or replaced during the recording."""
    FILE_ALTERED = "file altered"
    """A part of the recording was cut or overwritten during the recording."""
    EXCHANGE = "exchange"
    """Live connections continued without these ids."""
    UNKNOWN = "unknown"
    """Only in recordings without a ledger."""


class RefillState(StrEnum):
    """State of the REST requests for the ids of a gap."""

    PENDING = "pending"
    """The ids are requested at growing intervals."""
    COMPLETE = "complete"
    """Every id was returned; `filled_by` names the file."""
    REFUSED = "refused, archive pending"
    """The exchange refuses for good, for instance because the trades are too old."""
    OVERDUE = "incomplete, archive pending"
    """Ids were still missing when the archive was due to publish the day."""
    ENDED = "session ended, archive pending"
    """The session ended before every id was returned."""


class SessionState(StrEnum):
    """State of a session or of its recorder; a finished session is complete, interrupted or empty."""

    PLANNED = "planned"
    STARTING = "starting"
    """A recorder is at work that has not written a status."""
    WAITING = "waiting"
    """The recorder waits for a planned start."""
    CONNECTING = "connecting"
    RECORDING = "recording"
    DISK = "disk"
    """Messages cannot be written; they wait in memory."""
    FINISHING = "finishing"
    ENDED = "ended, not finished"
    """The recording is over; the next command that opens the session finishes it."""
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"
    """The session ended before its time, or its recorder is gone and it can be resumed."""
    EMPTY = "empty"
    """Nothing was recorded."""


"""State of a session without any recorded message."""


class Gap(_Record):
    """One line of the gap ledger; a later line of the same stream and `last_good_id` replaces an earlier one.

    Attributes:
        stream: Name of the stream at the exchange.
        last_good_id: Last id before the gap.
        first_good_id: First id after the gap.
        ids_lost: Count of ids in the gap.
        start_ns: Capture time of the message before the gap, nanoseconds UTC.
        end_ns: Capture time of the message after the gap.
        start_event_us: Event time of the message before the gap, exchange clock, microseconds UTC; None if
            unknown.
        end_event_us: Event time of the message after the gap.
        cause: Reason for the loss.
        detail: Close code or error.
        recoverable: Whether the exchange still serves the missing data (trades yes, depth diffs no).
        refill: State of the REST requests; None if there are none, as for diffs. After a state that ends in
            `archive pending`, `capture session prove` takes the ids from the file that the exchange
            publishes.
        ids_refilled: Count of the lost ids that REST has returned.
        filled_by: Name of the file with the ids, for instance `refilled_trades.jsonl`; None while open.
        at_end: Whether no message of the stream follows. `first_good_id` then follows the last id that is
            known to have been received, and `end_ns` is the capture time of that id. REST is not requested
            until a later message shows the end of the gap.
        at_start: Whether no message of the stream precedes, because the first recorded ones are lost.
            `last_good_id` then precedes the first id that is known to have been recorded.
    """

    stream: str
    last_good_id: Int64
    first_good_id: Int64
    ids_lost: Int64 = Field(ge=1)
    start_ns: Int64
    end_ns: Int64
    start_event_us: Int64 | None = None
    end_event_us: Int64 | None = None
    cause: Cause
    detail: str = ""
    recoverable: bool
    refill: RefillState | None = None
    ids_refilled: int = 0
    filled_by: str | None = None
    at_end: bool = False
    at_start: bool = False

    @property
    def is_outside(self) -> bool:
        """True if a neighbour of the gap is missing, so that the recording does not show the gap."""
        return self.at_end or self.at_start

    def is_beyond(self, first: int, last: int) -> bool:
        """Return whether the gap is outside a stream's `first..last`; both are -1 for an empty stream."""
        return first < 0 or last <= self.last_good_id or first >= self.first_good_id


class RefillCount(_Record):
    """Gaps of one state: their count, their lost ids, and the returned ids."""

    gaps: int = 0
    ids_lost: int = 0
    ids_refilled: int = 0


def count_refills(gaps: Iterable[Gap]) -> dict[RefillState, RefillCount]:
    """Count the gaps that are or were requested from REST, by state."""
    found: dict[RefillState, RefillCount] = {}
    for gap in gaps:
        if gap.refill is not None:
            before = found.get(gap.refill, RefillCount())
            figures = before.gaps + 1, before.ids_lost + gap.ids_lost, before.ids_refilled + gap.ids_refilled
            found[gap.refill] = RefillCount(gaps=figures[0], ids_lost=figures[1], ids_refilled=figures[2])
    return found


class SessionPlan(_Record):
    """Plan of a session.

    Attributes:
        session: Id of the session.
        venue: The exchange or the sandbox; for an imported session for instance `binance.us`. Old sessions
            without a venue are of `binance`.
        market: `spot`, `um` (USD-M futures), or for an imported session `cm` (COIN-M futures). Old sessions
            without a market are of `spot`.
        symbols: Symbols in capitals.
        streams: Names of the subscribed streams.
        regime: high_volume, low_volume, special_event or another name.
        description: Details of a special event, conditions.
        start_us: Start, microseconds UTC.
        duration_s: Planned length.
        connections: Count of simultaneous connections.
        planned: Whether the session comes from the plan in the settings, so that a scheduler may restart it.
    """

    session: str
    venue: str = "binance"
    market: str = "spot"
    symbols: list[str]
    streams: list[str]
    regime: str
    description: str = ""
    start_us: TimeUs
    duration_s: Seconds
    connections: int = Field(ge=1, le=1000)
    planned: bool = False

    @property
    def end_ns(self) -> int:
        """Planned end, nanoseconds UTC."""
        return self.start_us * 1000 + round(self.duration_s * 1e9)

    def late_s(self, began_ns: int) -> float:
        """Return the delay of the first line after the planned start in seconds; 0 if it came before."""
        return max(0.0, (began_ns - self.start_us * 1000) / 1e9)


class TrackMark(_Record):
    """Ids and counts of one stream.

    The fields are those of `sessions.continuity.Track`, and the times of the last message; 0 if unknown.
    """

    first: Int64
    last: Int64
    messages: Int64
    gaps: Int64
    lost: Int64
    duplicates: Int64
    overlaps: Int64
    last_ns: Int64
    last_event_us: Int64


class Checkpoint(_Record):
    """State of a growing recording at one position; a resume scans only the bytes after the position.

    Attributes:
        segment: Number of the part of the recording.
        offset: Count of bytes of the part that were fsynced.
        first_ns: First capture time of the recording.
        last_ns: Last capture time before the position.
        lines: Count of lines before the position, snapshots included; None in old checkpoints.
        tracks: Ids and counts by stream.
        counts: Other counts of the recorder, over all processes.
        audits: Audits so far.
        clock: Samples of the exchange's clock so far.
        process: Number of the recorder in the session, from 1; 0 in old checkpoints.
    """

    segment: int = Field(1, ge=1)
    offset: Int64 = Field(0, ge=0)
    first_ns: Int64 = 0
    last_ns: Int64 = 0
    lines: Int64 | None = None
    tracks: dict[str, TrackMark] = {}
    counts: dict[str, Int64] = {}
    audits: list[dict[str, Any]] = []
    clock: list[dict[str, Any]] = []
    process: Int64 = 0


class Ending(_Record):
    """Decision that a session ends, with its state (complete or interrupted); recording is then over."""

    state: SessionState


class FileRecord(_Record):
    """One file of a finished session."""

    name: str
    bytes: Int64
    sha256: str


class SessionMetadata(_Record):
    """`metadata.json`, the commit point of a session: files that it does not list are not part of it.

    Attributes:
        plan: Plan of the session.
        state: Complete, interrupted or empty.
        started_ns: Capture time of the first message.
        ended_ns: Capture time of the last message.
        files: All files except `metadata.json` and `checksums.txt`.
        statistics: Messages by stream, rates, uptime, gap ratios, reconnects with causes, bytes, hold-backs.
        audits: Comparisons of the live book with REST snapshots.
        clock: Offsets and round trips to the exchange's clock, steps of the wall clock.
        host: Description of the machine.
        versions: Versions of Python and of the packages.
        configuration: Settings of the recorder.
    """

    plan: SessionPlan
    state: SessionState
    started_ns: Int64 | None
    ended_ns: Int64 | None
    files: list[FileRecord]
    statistics: dict[str, Any]
    audits: list[dict[str, Any]]
    clock: dict[str, Any]
    host: dict[str, Any]
    versions: dict[str, str]
    configuration: dict[str, Any]
