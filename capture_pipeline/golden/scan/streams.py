"""What one pass over a recording finds of one stream: its ids, where some are missing, and its snapshots.

Figures of two parts of one recording can be added (`StreamScan.after`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from capture_pipeline.binance.streams.names import StreamKind, kind_of, symbol_of
from capture_pipeline.sessions.continuity import Track

MOST_BREAKS = 100_000
"""Places of missing ids that are kept a stream; the counts go on."""


@dataclass(frozen=True, slots=True)
class Break:
    """A place at which ids are missing.

    Attributes:
        stream: Whose.
        last_good_id: Last id before it.
        first_good_id: First id after it.
        start_ns: Capture time of the stream's message before it.
        end_ns: Capture time of the one after it.
    """

    stream: str
    last_good_id: int
    first_good_id: int
    start_ns: int
    end_ns: int


@dataclass(slots=True)
class StreamScan:
    """What was seen of one stream.

    Attributes:
        name: The stream.
        kind: What it carries.
        track: Its ids; of streams without contiguous ids only the messages count.
        first_ns: Capture time of its first message.
        last_ns: Capture time of its last one.
        breaks: Where ids are missing.
        runs: Ranges `first..last` of ids without a break, of depth streams, but for the last one.
        run_first: First id of the last of them.
        snapshots: `lastUpdateId` of each snapshot, of snapshot streams.
    """

    name: str
    kind: StreamKind
    track: Track = field(default_factory=Track)
    first_ns: int = -1
    last_ns: int = -1
    breaks: list[Break] = field(default_factory=list)
    runs: list[tuple[int, int]] = field(default_factory=list)
    run_first: int = -1
    snapshots: list[int] = field(default_factory=list)

    @property
    def symbol(self) -> str:
        """Its symbol, in capitals."""
        return symbol_of(self.name)

    @property
    def all_runs(self) -> list[tuple[int, int]]:
        """Every range of ids without a break."""
        return [*self.runs, (self.run_first, self.track.last)] if self.run_first >= 0 else []

    def see(self, first: int, last: int, capture_ns: int) -> None:
        """Count a message that does not simply continue."""
        before = self.track.last
        if self.track.count(first, last) and len(self.breaks) < MOST_BREAKS:
            self.breaks.append(Break(self.name, before, first, self.last_ns, capture_ns))
            self.runs.append((self.run_first, before))
            self.run_first = first
        elif self.run_first < 0:
            self.run_first = first
        if self.first_ns < 0:
            self.first_ns = capture_ns
        self.last_ns = capture_ns

    def precedes(self, later: StreamScan) -> bool:
        """Whether what was seen later begins behind what was seen here."""
        return later.track.first > self.track.last or later.track.first < 0 or self.track.first < 0

    def after(self, later: StreamScan) -> None:
        """Add what was seen of the stream later; it begins behind what was seen here."""
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
                self.runs.append((self.run_first, ours.last))
            elif later.runs:
                later.runs[0] = (self.run_first, later.runs[0][1])
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
    """Streams by name; one that was not seen yet begins."""

    def __missing__(self, name: str) -> StreamScan:
        """Begin a stream."""
        stream = self[name] = StreamScan(name, kind_of(name))
        return stream
