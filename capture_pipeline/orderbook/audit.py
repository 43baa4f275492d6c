"""Comparison of a local book with a REST snapshot, level by level.

A snapshot has no time, only a `lastUpdateId`. The book is therefore compared as it was at that id. If a diff
begins before the id and ends after it, its levels may have changed on either side: they are not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from capture_pipeline.binance.streams.messages import DepthSnapshot, Level
from capture_pipeline.orderbook.book import Book
from capture_pipeline.orderbook.diffs import Diff
from capture_pipeline.orderbook.levels import Side

DEPTHS = (10, 100, 1000)
"""Match ratios are computed over this many of the snapshot's best levels."""


class AuditOutcome(StrEnum):
    """Outcome of an audit."""

    COMPARED = "compared"
    AHEAD = "ahead"
    """The snapshot is newer than the last diff: audit it again after further diffs."""
    TOO_OLD = "too old"
    """The snapshot is older than the start of the audit: fetch another one."""
    NOT_READY = "not ready"
    """The book is not synced, or no audit was started."""


@dataclass(frozen=True, slots=True)
class SideAudit:
    """Comparison of one side of the local book with the same side of a snapshot.

    Attributes:
        matched: Levels with the same quantity in both.
        differing: Levels with different quantities.
        missing: Levels of the snapshot that the local book should contain and does not.
        ghosts: Levels of the local book that the snapshot does not list although it covers their prices.
        unknown: Levels of the snapshot at prices that the local book does not cover; not part of the ratios.
        straddled: Levels that were not compared because a diff across the snapshot's id changed them.
        ratios: Share of matched levels, by depth (see `DEPTHS`); 1.0 if nothing could be compared.
    """

    matched: int
    differing: int
    missing: int
    ghosts: int
    unknown: int
    straddled: int
    ratios: dict[int, float]

    @property
    def is_clean(self) -> bool:
        """True if no level differs."""
        return not (self.differing or self.missing or self.ghosts)


@dataclass(frozen=True, slots=True)
class Audit:
    """Result of an audit.

    Attributes:
        outcome: `COMPARED`, or the reason why nothing was compared.
        last_id: The snapshot's `lastUpdateId`.
        bids: Comparison of the bids; None unless the outcome is `COMPARED`.
        asks: Comparison of the asks; None unless the outcome is `COMPARED`.
        crossed: True if the local book was crossed at the snapshot's id.
    """

    outcome: AuditOutcome
    last_id: int
    bids: SideAudit | None = None
    asks: SideAudit | None = None
    crossed: bool = False

    @property
    def is_clean(self) -> bool:
        """True if the books were compared and no level differs."""
        return (
            self.bids is not None
            and self.asks is not None
            and self.bids.is_clean
            and self.asks.is_clean
            and not self.crossed
        )

    def ratio(self, depth: int) -> float | None:
        """Return the match ratio of the side that matches less; None without a comparison."""
        return (
            None
            if self.bids is None or self.asks is None
            else min(self.bids.ratios[depth], self.asks.ratios[depth])
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert the result to values that JSON can represent."""
        sides = {
            name: {
                field: value for field in SideAudit.__slots__ if (value := getattr(side, field)) is not None
            }
            for name, side in (("bids", self.bids), ("asks", self.asks))
            if side is not None
        }
        return {
            "outcome": str(self.outcome),
            "last_update_id": self.last_id,
            "crossed": self.crossed,
            **sides,
        }


@dataclass(slots=True)
class AuditLog:
    """The book at the start of an audit, and the diffs applied since.

    Attributes:
        base: A copy of the book.
        base_id: Last update id of the copy.
        diffs: Diffs applied to the book since, in order.
    """

    base: Book
    base_id: int
    diffs: list[Diff] = field(default_factory=list)

    def compare(self, snapshot: DepthSnapshot) -> Audit:
        """Compare the book at the snapshot's id with the snapshot. `base` is at that id afterwards.

        Raises:
            MalformedDataError: A price or a quantity of the snapshot is not a decimal.
        """
        touched: tuple[set[int], set[int]] = set(), set()
        for diff in self.diffs:
            if diff.last_id <= snapshot.last_id:
                self.base.apply(diff)
            elif diff.first_id <= snapshot.last_id:
                for prices, changes in zip(touched, (diff.bids, diff.asks), strict=True):
                    prices.update(_prices_of(changes))
        ours = self.base
        bids = compare_side(ours.bids, snapshot.bids, touched[0])
        asks = compare_side(ours.asks, snapshot.asks, touched[1])
        return Audit(AuditOutcome.COMPARED, snapshot.last_id, bids, asks, crossed=ours.crossed)

    def rebase(self, snapshot: DepthSnapshot) -> Book:
        """Return the snapshot with all later diffs applied. Call this after `compare`, and last."""
        self.base.refresh(snapshot.bids, snapshot.asks)
        for diff in self.diffs:
            if diff.last_id > snapshot.last_id:
                self.base.apply(diff)
        return self.base


def compare_side(ours: Side, listed: Sequence[Level], touched: set[int]) -> SideAudit:
    """Compare one side with the snapshot's levels, except the prices in `touched`."""
    theirs = Side(ours.sign)
    theirs.apply(listed)
    our_levels, their_levels = ours.levels, theirs.levels
    known = ours.known_rank
    matched = differing = missing = unknown = straddled = 0
    ratios = dict.fromkeys(DEPTHS, 1.0)
    for position, price in enumerate(theirs.sorted_prices(), 1):
        if price in touched:
            straddled += 1
        elif price in our_levels:
            is_equal = our_levels[price] == their_levels[price]
            matched, differing = matched + is_equal, differing + (not is_equal)
        elif known is not None and price * ours.sign <= known:
            missing += 1
        else:
            unknown += 1
        compared = matched + differing + missing
        for depth in DEPTHS:
            if position <= depth and compared:
                ratios[depth] = matched / compared
    worst = theirs.worst_rank()
    ghosts = sum(
        price not in their_levels and price not in touched and (worst is None or price * ours.sign <= worst)
        for price in our_levels
    )
    return SideAudit(matched, differing, missing, ghosts, unknown, straddled, ratios)


def _prices_of(changes: Sequence[Level]) -> set[int]:
    side = Side(1)  # parses the prices; a quantity above zero keeps those of removed levels
    side.apply([(price, "1.00000000") for price, _ in changes])
    return set(side.levels)
