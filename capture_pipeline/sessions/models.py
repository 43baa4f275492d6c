"""What a session writes beside its messages: plan, gap ledger, metadata. Typed, without behaviour."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

Int64 = Annotated[int, Field(ge=-(1 << 63), le=(1 << 63) - 1)]
"""Ids, counts and nanoseconds."""
TimeUs = Annotated[int, Field(ge=0, le=7_258_118_400_000_000)]
"""Microseconds UTC, up to the year 2200."""
Seconds = Annotated[float, Field(gt=0, le=1e9)]
_TRACK = {"first", "last", "messages", "gaps", "lost", "duplicates", "overlaps", "last_ns", "last_event_us"}


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Cause(StrEnum):
    """Why ids are missing."""

    LIFE = "connection life"
    """A connection reached the age at which the exchange ends it."""
    SHUTDOWN = "serverShutdown"
    SILENCE = "silence"
    CLOSED = "connection closed"
    PROTOCOL = "protocol error"
    """A connection was ended because the peer violated the WebSocket protocol."""
    PROCESS = "process down"
    DISK = "disk"
    FILE_REMOVED = "file removed"
    """Somebody removed or replaced a part of the recording while it was written."""
    FILE_ALTERED = "file altered"
    """Somebody cut or overwrote it."""
    EXCHANGE = "exchange"
    """Live connections went on without them."""
    UNKNOWN = "unknown"
    """Of recordings that kept no ledger."""


class RefillState(StrEnum):
    """Whether REST is asked for the ids of a gap."""

    PENDING = "pending"
    """Asked again at growing intervals."""
    COMPLETE = "complete"
    """Every id came; they are in the file that `filled_by` names."""
    REFUSED = "refused, archive pending"
    """The exchange refused for good, for instance because the trades are older than its window."""
    OVERDUE = "incomplete, archive pending"
    """Ids were lacking until the archive was due to have the day."""
    ENDED = "session ended, archive pending"
    """The session ended before every id came."""


ENDED_BY = "ended by "
"""How the counts of a checkpoint name the ends of connections, by cause."""
EMPTY = "empty"
"""State of a session of which nothing was ever recorded."""


class Gap(_Record):
    """One line of the gap ledger; a later line of the same stream and `last_good_id` supersedes an earlier one.

    Attributes:
        stream: The exchange's name of the stream.
        last_good_id: Last id before the gap.
        first_good_id: First id after it.
        ids_lost: How many lie between.
        start_ns: Capture time of the message before the gap, nanoseconds UTC.
        end_ns: Capture time of the message after it.
        start_event_us: Event time of the message before the gap, the exchange's clock, microseconds UTC; None where it is unknown.
        end_event_us: Event time of the message after it.
        cause: Why.
        detail: The close code, the error.
        recoverable: Whether the exchange still serves what is missing (trades yes, depth diffs no).
        refill: Whether REST is asked; None where it never was, as for diffs. A state that ends in `archive pending` means that
            `capture prove` takes the ids from the file that the exchange publishes of the day.
        ids_refilled: How many of the lost ids REST brought so far.
        filled_by: What brought it, for instance `refilled_trades.jsonl`; None while it is open.
        at_end: Whether nothing of the stream came after it. `first_good_id` then follows the last id that is known to have been recorded,
            `end_ns` is that one's capture time, and REST is not asked before a later message shows where the gap ends.
        at_start: Whether nothing of the stream came before it: what had been recorded first is gone. `last_good_id` then precedes the first
            id that is known to have been recorded.
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
        """Whether the data on its two sides do not show it."""
        return self.at_end or self.at_start


class RefillCount(_Record):
    """Gaps of one state: how many, the ids lost in them, and how many of these REST brought."""

    gaps: int = 0
    ids_lost: int = 0
    ids_refilled: int = 0


def count_refills(gaps: Iterable[Gap]) -> dict[RefillState, RefillCount]:
    """Count the gaps that REST is or was asked about, by state."""
    found: dict[RefillState, RefillCount] = {}
    for gap in gaps:
        if gap.refill is not None:
            before = found.get(gap.refill, RefillCount())
            figures = before.gaps + 1, before.ids_lost + gap.ids_lost, before.ids_refilled + gap.ids_refilled
            found[gap.refill] = RefillCount(gaps=figures[0], ids_lost=figures[1], ids_refilled=figures[2])
    return found


class SessionPlan(_Record):
    """What is to be recorded.

    Attributes:
        session: Its id.
        venue: The exchange, or the sandbox; of an imported session for instance `binance.us`. Sessions of before are of `binance`.
        market: `spot`, `um` (USD-M futures), or of an imported session `cm` (COIN-M futures). Sessions of before are of `spot`.
        symbols: In capitals.
        streams: What is subscribed to.
        regime: high_volume, low_volume, special_event or one's own.
        description: Details of a special event, conditions.
        start_us: Start, microseconds UTC.
        duration_s: Planned length.
        connections: How many run side by side.
        planned: Whether it comes from the plan, so that a scheduler may start it again.
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
        """Its planned end, nanoseconds UTC."""
        return self.start_us * 1000 + round(self.duration_s * 1e9)

    def late_s(self, began_ns: int) -> float:
        """How long after its start the recording began, by the capture time of its first line; 0 if it began before."""
        return max(0.0, (began_ns - self.start_us * 1000) / 1e9)


class Checkpoint(_Record):
    """Up to where a growing recording is known to be sound, and the counts up to there; spares a resume the whole scan.

    Attributes:
        segment: Which part of the recording.
        offset: Bytes of it that were fsynced.
        first_ns: First capture time of the recording.
        last_ns: Last capture time up to there.
        lines: Lines up to there, those of no stream too; None of a recorder that did not count them.
        tracks: Ids and counts by stream: the fields of `quality.continuity.Track`, `last_ns` and `last_event_us`.
        counts: What the recorder counts beside them, over all its processes.
        audits: Audits so far.
        clock: Samples of the exchange's clock so far.
        process: Which recorder of the session wrote it, counted from 1; 0 of one that did not count.
    """

    segment: int = Field(1, ge=1)
    offset: Int64 = Field(0, ge=0)
    first_ns: Int64 = 0
    last_ns: Int64 = 0
    lines: Int64 | None = None
    tracks: dict[str, dict[str, Int64]] = {}
    counts: dict[str, Int64] = {}
    audits: list[dict[str, Any]] = []
    clock: list[dict[str, Any]] = []
    process: Int64 = 0

    @field_validator("tracks")
    @classmethod
    def _check_tracks(cls, tracks: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        if any(track.keys() != _TRACK for track in tracks.values()):
            raise ValueError(f"a track has the fields {', '.join(sorted(_TRACK))}")
        return tracks


class Ending(_Record):
    """That a session is to end, and how: `complete` or `interrupted`. What is recorded is only finished from then on."""

    state: str


class FileRecord(_Record):
    """One file of a finished session."""

    name: str
    bytes: Int64
    sha256: str


class SessionMetadata(_Record):
    """`metadata.json`, the commit point of a session: what it does not list is not part of it.

    Attributes:
        plan: What was planned.
        state: `complete`, `interrupted` where it was ended before its time, or `empty` where nothing was ever recorded.
        started_ns: Capture time of the first message.
        ended_ns: Capture time of the last one.
        files: Every file but this and `checksums.txt`.
        statistics: Messages by stream, rates, uptime, gap ratios, reconnects with causes, bytes, hold-backs.
        audits: Comparisons of the live book with REST snapshots.
        clock: Offsets and round trips to the exchange's clock, steps of the wall clock.
        host: Where it was recorded.
        versions: With what.
        configuration: The settings of the recorder.
    """

    plan: SessionPlan
    state: str
    started_ns: Int64 | None
    ended_ns: Int64 | None
    files: list[FileRecord]
    statistics: dict[str, Any]
    audits: list[dict[str, Any]]
    clock: dict[str, Any]
    host: dict[str, Any]
    versions: dict[str, str]
    configuration: dict[str, Any]
