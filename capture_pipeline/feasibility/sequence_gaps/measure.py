"""Whether the diffs of a session are whole: ids that are missing, when, and how long it took until a snapshot made a book possible again.

Ids alone are looked at, in the order of the recording and a block at a time; what continues what is decided where the recorder decides
it, `quality.continuity` and `book.sync`. Lost ids against all ids is the definition that counts: a diff covers a range of ids, so lost
messages can only be estimated, and the number of places says nothing of their length. All three are told.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from pydantic import BaseModel, ConfigDict

from capture_pipeline.binance.streams.messages import DepthDiff, DepthSnapshot
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.parquet import row_groups
from capture_pipeline.orderbook.levels import Book
from capture_pipeline.orderbook.sync import BookSync, State, Step
from capture_pipeline.sessions.continuity import Track, gap_ratios
from capture_pipeline.tables.golden import DEPTH, SNAPSHOTS, GoldenTable

PERIODS = 120
MOST_LISTED = 100
_MINUTE_NS = 60 * 10**9
_MS = 1e6


class Gap(BaseModel):
    """Ids that are missing.

    Attributes:
        capture_ns: When the diff behind them came.
        last_good_id: Before them.
        first_good_id: Behind them.
        lost: How many ids.
        recovered_ms: Until a snapshot was bridged and the book valid again; None if it never was, or another gap came first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    capture_ns: int
    last_good_id: int
    first_good_id: int
    lost: int
    recovered_ms: float | None


class FeedFigures(BaseModel):
    """The diffs of one symbol.

    Attributes:
        subject: Session and symbol.
        diffs: Messages.
        ids: From first to last, missing ones included.
        lost_ids: Missing.
        gaps: Places at which they are.
        duplicates: Diffs whose ids were all there before.
        overlaps: Diffs some of whose ids were.
        lost_ids_percent: Lost ids of all ids: the one that decides.
        lost_events_percent: Lost messages of all expected, estimated by the mean number of ids of one.
        discontinuities_percent: Places of all messages.
        snapshots: How many there are to recover by.
        first_valid_ms: From the first diff until the book was valid; None if it never was.
        recovered: Gaps after which it was valid again.
        recovery_ms: Median of the times this took; None without any.
        longest_recovery_ms: Likewise the longest.
        period_s: Length of a period of the two lists; whole minutes.
        messages_by_period: Diffs.
        lost_by_period: Ids found missing in it.
        listed: The first hundred gaps.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    subject: str
    diffs: int
    ids: int
    lost_ids: int
    gaps: int
    duplicates: int
    overlaps: int
    lost_ids_percent: float
    lost_events_percent: float
    discontinuities_percent: float
    snapshots: int
    first_valid_ms: float | None
    recovered: int
    recovery_ms: float | None
    longest_recovery_ms: float | None
    period_s: int
    messages_by_period: list[int]
    lost_by_period: list[int]
    listed: list[Gap]


@dataclass
class _Feed:
    """What one pass gathers."""

    track: Track = field(default_factory=Track)
    sync: BookSync[Book] = field(default_factory=lambda: BookSync(Book()))
    messages: dict[int, int] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    snapshots: int = 0
    first_ns: int = -1
    first_valid_ms: float | None = None
    open_ns: int | None = None

    def diff(self, capture_ns: int, first_id: int, last_id: int, previous_id: int) -> None:
        """Count the next diff; futures say what they follow."""
        self.first_ns = capture_ns if self.first_ns < 0 else self.first_ns
        minute = capture_ns // _MINUTE_NS
        self.messages[minute] = self.messages.get(minute, 0) + 1
        before = self.track.last
        missing = self.track.see(first_id if previous_id < 0 else previous_id + 1, last_id)
        if missing:
            self.lost[minute] = self.lost.get(minute, 0) + missing
            self.gaps.append(
                Gap(
                    capture_ns=capture_ns,
                    last_good_id=before,
                    first_good_id=before + missing + 1,
                    lost=missing,
                    recovered_ms=None,
                )
            )
        step = self.sync.process_diff(
            DepthDiff(0, "", first_id, last_id, [], [], None if previous_id < 0 else previous_id)
        )
        if missing:
            self.open_ns = capture_ns
        self._valid_at(capture_ns, step)

    def snapshot(self, capture_ns: int, last_id: int) -> None:
        """Try to begin anew with a snapshot."""
        self.snapshots += 1
        self._valid_at(capture_ns, self.sync.process_snapshot(DepthSnapshot(last_id, [], [])))

    def _valid_at(self, capture_ns: int, step: Step) -> None:
        if step is not Step.BRIDGED or self.sync.state is not State.SYNCED:
            return
        if self.first_valid_ms is None:
            self.first_valid_ms = (capture_ns - self.first_ns) / _MS
        if self.open_ns is not None:
            took = (capture_ns - self.open_ns) / _MS
            self.recoveries.append(took)
            self.gaps[-1] = self.gaps[-1].model_copy(update={"recovered_ms": took})
            self.open_ns = None


def delta_feed(tables: GoldenTables, symbol: str) -> FeedFigures:
    """Look at the diffs of one symbol of a session.

    Raises:
        LakeError: The session has no tables, or a file of them is gone.
    """
    feed = _Feed()
    for message in heapq.merge(
        _messages(tables, DEPTH, symbol), _messages(tables, SNAPSHOTS, symbol), key=lambda found: found[0]
    ):
        if len(message) == len(_HEADS[DEPTH.name]):
            feed.diff(*message[1:])
        else:
            feed.snapshot(*message[1:])
    return _figures(f"{tables.session} {symbol}", feed)


def _figures(subject: str, feed: _Feed) -> FeedFigures:
    track, ratios = feed.track, gap_ratios([feed.track])
    minutes = sorted(feed.messages)
    span = minutes[-1] - minutes[0] + 1 if minutes else 0
    width = max(1, -(-span // PERIODS))
    messages, lost = ([0] * -(-span // width) for _ in range(2))
    for counts, found in ((messages, feed.messages), (lost, feed.lost)):
        for minute, count in found.items():
            counts[(minute - minutes[0]) // width] += count
    took = sorted(feed.recoveries)
    return FeedFigures(
        subject=subject,
        diffs=track.messages,
        ids=track.ids,
        lost_ids=track.lost,
        gaps=track.gaps,
        duplicates=track.duplicates,
        overlaps=track.overlaps,
        lost_ids_percent=100 * ratios.lost_ids,
        lost_events_percent=100 * ratios.lost_events,
        discontinuities_percent=100 * ratios.discontinuities,
        snapshots=feed.snapshots,
        first_valid_ms=feed.first_valid_ms,
        recovered=len(took),
        recovery_ms=took[len(took) // 2] if took else None,
        longest_recovery_ms=took[-1] if took else None,
        period_s=60 * width,
        messages_by_period=messages,
        lost_by_period=lost,
        listed=feed.gaps[:MOST_LISTED],
    )


_HEADS = {
    DEPTH.name: ("line", "capture_ns", "first_id", "last_id", "previous_id"),
    SNAPSHOTS.name: ("line", "capture_ns", "last_id"),
}


def _messages(tables: GoldenTables, table: GoldenTable, symbol: str) -> Iterator[tuple[int, ...]]:
    """The heads of messages, a row group at a time; each holds whole messages."""
    names = _HEADS[table.name]
    for path in tables.paths(table, symbol):
        for read in row_groups(path, list(names)):
            columns = [read[name].to_numpy() for name in names]
            heads = np.diff(columns[0], prepend=-1) != 0
            yield from zip(*(column[heads].tolist() for column in columns), strict=True)
