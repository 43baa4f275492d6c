"""Measurement of gaps in the diffs of a session: lost ids, and the time until the book was valid again.

Only ids are read, in the order of the recording and block by block. `sessions.continuity` and
`orderbook.synchronization` decide whether a diff continues the last one, as in the recorder. The criterion is
the share of lost ids in all ids. A diff covers a range of ids, so the number of lost messages is an estimate,
and the number of gaps does not state their length. All three shares are reported.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from pydantic import BaseModel, ConfigDict

from capture_pipeline.binance.streams.messages import DepthDiff, DepthSnapshot
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.parquet import read_row_groups
from capture_pipeline.orderbook.local_book import LocalBook
from capture_pipeline.orderbook.synchronization import State, Step, first_covered_id
from capture_pipeline.sessions.continuity import Track, compute_gap_ratios
from capture_pipeline.tables.golden.depth import DEPTH
from capture_pipeline.tables.golden.snapshots import SNAPSHOTS
from capture_pipeline.tables.table import Table

PERIODS = 120
MAX_LISTED = 100
_MINUTE_NS = 60 * 10**9
_MS = 1e6


class IdGap(BaseModel):
    """A range of missing ids.

    Attributes:
        capture_ns: Capture time of the diff after the gap.
        last_good_id: Last id before the gap.
        first_good_id: First id after the gap.
        lost: Number of missing ids.
        recovered_ms: Time until a snapshot after which the book was valid again; None if another gap or the
            end was first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    capture_ns: int
    last_good_id: int
    first_good_id: int
    lost: int
    recovered_ms: float | None


class FeedFigures(BaseModel):
    """Figures about the diffs of one symbol.

    Attributes:
        subject: Session and symbol.
        diffs: Number of diffs.
        ids: Number of ids from the first to the last, including missing ones.
        lost_ids: Number of missing ids.
        gaps: Number of gaps.
        duplicates: Number of diffs with known ids only.
        overlaps: Number of diffs with known and new ids.
        lost_ids_percent: Lost ids as a percentage of all ids; the value of the criterion.
        lost_events_percent: Lost messages as a percentage of the expected ones, estimated by the mean number
            of ids in a message.
        discontinuities_percent: Gaps as a percentage of all messages.
        snapshots: Number of snapshots.
        first_valid_ms: Time from the first diff to the first valid book; None if the book was never valid.
        recovered: Number of gaps after which the book became valid again.
        recovery_ms: Median time of these recoveries; None without one.
        longest_recovery_ms: Longest time of these recoveries; None without one.
        period_s: Length of a period of the following lists, in whole minutes.
        messages_by_period: Number of diffs in each period.
        lost_by_period: Number of ids found missing in each period.
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
    listed: list[IdGap]


@dataclass
class _Feed:
    """State of one pass over the messages of a symbol."""

    track: Track = field(default_factory=Track)
    sync: LocalBook = field(default_factory=LocalBook)
    messages: dict[int, int] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)
    gaps: list[IdGap] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    snapshots: int = 0
    first_ns: int = -1
    first_valid_ms: float | None = None
    open_ns: int | None = None

    def diff(self, capture_ns: int, first_id: int, last_id: int, previous_id: int) -> None:
        """Process the next diff; `previous_id` is -1 for spot."""
        self.first_ns = capture_ns if self.first_ns < 0 else self.first_ns
        minute = capture_ns // _MINUTE_NS
        self.messages[minute] = self.messages.get(minute, 0) + 1
        before = self.track.last
        missing = self.track.count(first_covered_id(first_id, previous_id), last_id)
        if missing:
            self.lost[minute] = self.lost.get(minute, 0) + missing
            self.gaps.append(
                IdGap(
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
        self._record_if_valid(capture_ns, step)

    def snapshot(self, capture_ns: int, last_id: int) -> None:
        """Process the next snapshot, which may make the book valid."""
        self.snapshots += 1
        self._record_if_valid(capture_ns, self.sync.process_snapshot(DepthSnapshot(last_id, [], [])))

    def _record_if_valid(self, capture_ns: int, step: Step) -> None:
        if step is not Step.BRIDGED or self.sync.state is not State.SYNCED:
            return
        if self.first_valid_ms is None:
            self.first_valid_ms = (capture_ns - self.first_ns) / _MS
        if self.open_ns is not None:
            took = (capture_ns - self.open_ns) / _MS
            self.recoveries.append(took)
            self.gaps[-1] = self.gaps[-1].model_copy(update={"recovered_ms": took})
            self.open_ns = None


def measure_feed(tables: GoldenTables, symbol: str) -> FeedFigures:
    """Measure the gaps in the diffs of one symbol of a session.

    Raises:
        LakeError: The session has no tables, or a file of its tables is missing.
    """
    feed = _Feed()
    for message in heapq.merge(
        _read_messages(tables, DEPTH, symbol),
        _read_messages(tables, SNAPSHOTS, symbol),
        key=lambda found: found[0],
    ):
        if len(message) == len(_HEADS[DEPTH.name]):
            feed.diff(*message[1:])
        else:
            feed.snapshot(*message[1:])
    return _build_figures(f"{tables.session} {symbol}", feed)


def _build_figures(subject: str, feed: _Feed) -> FeedFigures:
    track, ratios = feed.track, compute_gap_ratios([feed.track])
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
        listed=feed.gaps[:MAX_LISTED],
    )


_HEADS = {
    DEPTH.name: ("line", "capture_ns", "first_id", "last_id", "previous_id"),
    SNAPSHOTS.name: ("line", "capture_ns", "last_id"),
}


def _read_messages(tables: GoldenTables, table: Table, symbol: str) -> Iterator[tuple[int, ...]]:
    """Yield the first row of each message, row group by row group; a row group contains whole messages."""
    names = _HEADS[table.name]
    for path in tables.paths(table, symbol):
        for read in read_row_groups(path, list(names)):
            columns = [read[name].to_numpy() for name in names]
            heads = np.diff(columns[0], prepend=-1) != 0
            yield from zip(*(column[heads].tolist() for column in columns), strict=True)
