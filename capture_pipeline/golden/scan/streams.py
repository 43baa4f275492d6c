"""Scan result of one stream: its ids, its gaps and its snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field

from capture_pipeline.binance.streams.names import StreamKind, kind_of, symbol_of
from capture_pipeline.sessions.continuity import IdRange, Track

MAX_BREAKS = 100_000
"""Gaps that are stored per stream; further gaps are only counted."""


@dataclass(frozen=True, slots=True)
class Break:
    """Missing ids of a stream.

    Attributes:
        stream: Name of the stream.
        last_good_id: Last id before the missing ids.
        first_good_id: First id after the missing ids.
        start_ns: Capture time of the stream's message before the missing ids.
        end_ns: Capture time of the stream's message after the missing ids.
    """

    stream: str
    last_good_id: int
    first_good_id: int
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class StreamScan:
    """Result of one stream.

    Attributes:
        name: Name of the stream.
        kind: Kind of its messages.
        track: Counts of ids; streams without contiguous ids have only a count of messages.
        first_ns: Capture time of the first message; -1 before the first message.
        last_ns: Capture time of the last message; -1 before the first message.
        breaks: Missing ids, the first `MAX_BREAKS` places.
        runs: Ranges of ids without a gap, except the current one.
        run_first: First id of the current range; -1 before the first message.
        snapshots: `lastUpdateId` of each snapshot; only snapshot streams have them.
    """

    name: str
    kind: StreamKind
    track: Track = field(default_factory=Track)
    first_ns: int = -1
    last_ns: int = -1
    breaks: list[Break] = field(default_factory=list)
    runs: list[IdRange] = field(default_factory=list)
    run_first: int = -1
    snapshots: list[int] = field(default_factory=list)

    @property
    def symbol(self) -> str:
        """Symbol in capitals."""
        return symbol_of(self.name)

    @property
    def all_runs(self) -> list[IdRange]:
        """All ranges of ids without a gap."""
        return [*self.runs, IdRange(self.run_first, self.track.last)] if self.run_first >= 0 else []

    def count_message(self, first: int, last: int, capture_ns: int) -> None:
        """Count a message with the ids `first..last`."""
        before = self.track.last
        if self.track.count(first, last) and len(self.breaks) < MAX_BREAKS:
            self.breaks.append(Break(self.name, before, first, self.last_ns, capture_ns))
            self.runs.append(IdRange(self.run_first, before))
            self.run_first = first
        elif self.run_first < 0:
            self.run_first = first
        if self.first_ns < 0:
            self.first_ns = capture_ns
        self.last_ns = capture_ns

    def ends_before(self, later: StreamScan) -> bool:
        """Return True if the ids of the later part begin after the ids of this part."""
        return later.track.first > self.track.last or later.track.first < 0 or self.track.first < 0

    def merge(self, later: StreamScan) -> None:
        """Add the result of the later part, whose ids begin after the ids of this part."""
        ours, theirs = self.track, later.track
        if ours.first < 0 or theirs.first < 0:
            ours.first, ours.last = max(ours.first, theirs.first), max(ours.last, theirs.last)
            self.run_first = max(self.run_first, later.run_first)
        else:
            missing = theirs.first - ours.last - 1
            if missing:
                self.breaks.append(Break(self.name, ours.last, theirs.first, self.last_ns, later.first_ns))
                ours.gaps += 1
                ours.lost += missing
                self.runs.append(IdRange(self.run_first, ours.last))
            elif later.runs:
                later.runs[0] = IdRange(self.run_first, later.runs[0].last)
            if missing or later.runs:
                self.run_first = later.run_first
            ours.last = theirs.last
        for name in ("messages", "gaps", "lost", "duplicates", "overlaps"):
            setattr(ours, name, getattr(ours, name) + getattr(theirs, name))
        self.breaks += later.breaks
        self.runs += later.runs
        self.snapshots += later.snapshots
        self.first_ns = later.first_ns if self.first_ns < 0 else self.first_ns
        self.last_ns = later.last_ns


class Streams(dict[str, StreamScan]):
    """Results by stream name; the first access to a name creates its result."""

    def __missing__(self, name: str) -> StreamScan:
        """Create the result of a stream."""
        stream = self[name] = StreamScan(name, kind_of(name))
        return stream
