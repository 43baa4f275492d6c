"""A live book held against a REST snapshot: what matches, what is ours alone, what is theirs alone.

A snapshot has no time but its `lastUpdateId`, so the book is compared as it was at that id, not as it is. A diff that straddles the id
leaves open which side of it its levels changed on: they are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from capture_pipeline.binance.streams.messages import DepthSnapshot, Level
from capture_pipeline.orderbook.diffs import Diff
from capture_pipeline.orderbook.levels import Book, Side
from capture_pipeline.orderbook.texts import TextBook

B = TypeVar("B", Book, TextBook)
"""Levels in numbers, for books that are looked at after each diff, or in texts, for books that are followed."""

DEPTHS = (10, 100, 1000)
"""How many of the snapshot's best levels a match ratio is taken over."""


class AuditOutcome(StrEnum):
    """What became of an audit."""

    COMPARED = "compared"
    AHEAD = "ahead"
    """The snapshot is ahead of the diffs: audit it again once more have come."""
    TOO_OLD = "too old"
    """It precedes the audit's beginning: fetch another."""
    NOT_READY = "not ready"
    """The book is not synced, or no audit was wanted."""


@dataclass(frozen=True, slots=True)
class SideAudit:
    """One side against the snapshot's.

    Attributes:
        matched: Levels whose quantity is the same.
        differing: Levels with another quantity.
        missing: Levels of the snapshot that we should have and have not.
        ghosts: Levels of ours within the snapshot's reach that it does not list.
        unknown: Levels of the snapshot beyond what we could know; they count neither way.
        straddled: Levels left out, for a diff that straddles the snapshot touched them.
        ratios: Share of matches by number of the snapshot's best levels; 1.0 where nothing could be compared.
    """

    matched: int
    differing: int
    missing: int
    ghosts: int
    unknown: int
    straddled: int
    ratios: dict[int, float]

    @property
    def clean(self) -> bool:
        """Whether nothing disagrees."""
        return not (self.differing or self.missing or self.ghosts)


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        outcome: Whether a comparison took place.
        last_id: The snapshot's `lastUpdateId`.
        bids: Present where it took place.
        asks: Likewise.
        crossed: Whether our book was crossed at that id.
    """

    outcome: AuditOutcome
    last_id: int
    bids: SideAudit | None = None
    asks: SideAudit | None = None
    crossed: bool = False

    @property
    def clean(self) -> bool:
        """Whether a comparison took place and nothing disagrees."""
        return (
            self.bids is not None
            and self.asks is not None
            and self.bids.clean
            and self.asks.clean
            and not self.crossed
        )

    def ratio(self, depth: int) -> float | None:
        """The lower match ratio of both sides; None without a comparison."""
        return (
            None
            if self.bids is None or self.asks is None
            else min(self.bids.ratios[depth], self.asks.ratios[depth])
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
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
class AuditLog(Generic[B]):
    """What an audit needs: the book at its beginning and the diffs since.

    Attributes:
        base: A copy of the book.
        base_id: The update id it stands at.
        diffs: Applied since, in order.
    """

    base: B
    base_id: int
    diffs: list[Diff] = field(default_factory=list)

    def compare(self, snapshot: DepthSnapshot) -> Audit:
        """Hold the book at the snapshot's id against it; `base` stands at that id afterwards.

        Raises:
            MalformedDataError: The snapshot holds what is no decimal.
        """
        touched: tuple[set[int], set[int]] = set(), set()
        for diff in self.diffs:
            if diff.last_id <= snapshot.last_id:
                self.base.apply(diff)
            elif diff.first_id <= snapshot.last_id:
                for prices, changes in zip(touched, (diff.bids, diff.asks), strict=True):
                    prices.update(_loaded(changes))
        ours = self.base.settled()
        bids = compare_side(ours.bids, snapshot.bids, touched[0])
        asks = compare_side(ours.asks, snapshot.asks, touched[1])
        return Audit(AuditOutcome.COMPARED, snapshot.last_id, bids, asks, crossed=ours.crossed)

    def adopted(self, snapshot: DepthSnapshot) -> B:
        """After a comparison: the snapshot as the new base, with the diffs after it applied. The log is of no use afterwards."""
        self.base.load(snapshot.bids, snapshot.asks)
        for diff in self.diffs:
            if diff.last_id > snapshot.last_id:
                self.base.apply(diff)
        return self.base


def compare_side(ours: Side, listed: Sequence[Level], touched: set[int]) -> SideAudit:
    """Hold one side against the snapshot's levels, leaving out the prices in `touched`."""
    theirs = Side(ours.sign)
    theirs.apply(listed)
    counts = {"matched": 0, "differing": 0, "missing": 0, "unknown": 0, "straddled": 0}
    compared, ratios = 0, dict.fromkeys(DEPTHS, 1.0)
    for place, price in enumerate(theirs.ranked(), 1):
        what = _verdict(ours, price, theirs.levels[price], touched)
        counts[what] += 1
        compared += what in {"matched", "differing", "missing"}
        for depth in DEPTHS:
            if place <= depth and compared:
                ratios[depth] = counts["matched"] / compared
    reach = theirs.reach()
    ghosts = sum(
        price not in theirs.levels and price not in touched and (reach is None or price * ours.sign <= reach)
        for price in ours.levels
    )
    return SideAudit(**counts, ghosts=ghosts, ratios=ratios)


def _verdict(ours: Side, price: int, quantity: str, touched: set[int]) -> str:
    if price in touched:
        return "straddled"
    mine = ours.levels.get(price)
    if mine == quantity:
        return "matched"
    if mine is not None:
        return "differing"
    return "missing" if ours.known is not None and price * ours.sign <= ours.known else "unknown"


def _loaded(changes: Sequence[Level]) -> set[int]:
    """The prices of changes, removals included."""
    side = Side(1)
    side.apply([(price, "1.00000000") for price, _ in changes])
    return set(side.levels)
