"""Random updates of a small market, and their book in plain dictionaries."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from capture_pipeline.orderbook.synchronization import State
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.messages import Messages

START_NS = 1_769_817_600_000_000_000
Side = dict[Decimal, Decimal]
Change = tuple[bool, Decimal, Decimal]
"""True for an ask, price, quantity."""


@dataclass(frozen=True)
class Update:
    number: int
    capture_ns: int
    changes: list[Change]


def market(messages: int, tick: str = "0.01", lot: str = "0.00001", seed: int = 7) -> list[Update]:
    """Generate random updates around the price 84,000 that never cross."""
    dice, price, quantity = random.Random(seed), Decimal(tick), Decimal(lot)  # noqa: S311 - a test's dice
    made = []
    for number in range(1, messages + 1):
        changes = []
        for _ in range(dice.randint(1, 6)):
            ask = dice.random() < 0.5
            level = 84_000 + (1 if ask else -1) * price * dice.randint(1, 400)
            changes.append((ask, level, quantity * dice.choice([0, 1, dice.randint(1, 5_000_000)])))
        made.append(Update(number, START_NS + number * 100_000_000, changes))
    return made


def book_of(updates: Iterable[Update]) -> tuple[Side, Side]:
    """Return bids and asks after the updates."""
    sides: tuple[Side, Side] = {}, {}
    for update in updates:
        for ask, price, quantity in update.changes:
            sides[ask][price] = quantity
            if not quantity:
                del sides[ask][price]
    return sides


def levels_of(sides: tuple[Side, Side]) -> list[Change]:
    """Return the levels in the order of a snapshot."""
    bids, asks = sides
    return [(False, price, bids[price]) for price in sorted(bids, reverse=True)] + [
        (True, price, asks[price]) for price in sorted(asks)
    ]


def replayed(messages: Iterable[Messages]) -> tuple[Replay, tuple[Side, Side], list[Messages]]:
    """Replay a source; return the replay, the exact levels at the end, and all pieces."""
    replay, pieces = Replay(), []
    for piece in messages:
        replay.process(piece)
        pieces.append(piece)
    scale = pieces[-1].scale
    sides = [
        {scale.price(int(tick)): scale.quantity(int(lots)) for tick, lots in zip(*side, strict=True)}
        for side in replay.book.top()
    ]
    assert replay.state is State.SYNCED
    return replay, (sides[0], sides[1]), pieces
