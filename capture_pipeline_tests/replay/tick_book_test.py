"""Tests of the compiled book against plain dictionaries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.compiled import book as tick_book
from capture_pipeline.orderbook.compiled._arrays import EMPTY, MAX_TICK, SPAN, WINDOW
from capture_pipeline.orderbook.compiled.book import LevelArrays, LevelBatch, TickBook

Levels = list[tuple[int, int]]
NEAR = st.integers(-60, 60)
TICKS = st.one_of(
    NEAR,
    st.builds(
        lambda base, off: base + off,
        st.sampled_from([WINDOW // 4, WINDOW // 2, WINDOW, 3 * WINDOW, SPAN // 2, SPAN, 3 * SPAN, 1 << 55]),
        NEAR,
    ),
    st.builds(
        lambda base, off: off - base, st.sampled_from([WINDOW // 2, WINDOW, SPAN // 2, SPAN, 1 << 55]), NEAR
    ),
)
SIDE = st.lists(st.tuples(TICKS, st.sampled_from([0, 0, 1, 7, 2**62])), max_size=8)


class Plain:
    """Two dictionaries."""

    def __init__(self) -> None:
        self.sides: tuple[dict[int, int], dict[int, int]] = {}, {}

    def set(self, side: int, levels: Levels) -> None:
        """Set levels one after the other."""
        for tick, lots in levels:
            self.sides[side][tick] = lots
            if not lots:
                self.sides[side].pop(tick)

    def best(self) -> tuple[int, int, int, int]:
        """Return the best prices as `TickBook.apply` does."""
        bids, asks = self.sides
        bid, ask = max(bids, default=int(EMPTY)), min(asks, default=int(EMPTY))
        return bid, bids.get(bid, 0), ask, asks.get(ask, 0)


def run_of(messages: list[tuple[Levels, Levels]]) -> LevelBatch:
    levels = [level for bids, asks in messages for level in bids + asks]
    ends = np.cumsum([len(bids) + len(asks) for bids, asks in messages])
    starts = ends - [len(bids) + len(asks) for bids, asks in messages]
    middles = starts + [len(bids) for bids, _ in messages]
    prices, lots = (np.array([level[part] for level in levels], np.int64) for part in (0, 1))
    return LevelBatch(np.stack([starts, middles, ends]).astype(np.int64), prices, lots)


def told(book: TickBook) -> tuple[Levels, Levels]:
    bids, asks = book.top()
    return list(zip(*map(np.ndarray.tolist, bids), strict=True)), list(
        zip(*map(np.ndarray.tolist, asks), strict=True)
    )


def same(book: TickBook, plain: Plain) -> bool:
    bids, asks = plain.sides
    return told(book) == (sorted(bids.items(), reverse=True), sorted(asks.items())) and book.level_counts == (
        len(bids),
        len(asks),
    )


@given(st.lists(st.tuples(SIDE, SIDE), min_size=1, max_size=30))
@settings(max_examples=300)
def test_bests_and_levels_are_those_of_the_plain_book(messages: list[tuple[Levels, Levels]]) -> None:
    """The books are equal after every message, also if they are crossed or empty.

    Prices are in the window, beyond it, beyond the bitmap, and far apart.
    """
    book, plain, crossed = TickBook(), Plain(), 0
    bests = book.apply(run_of(messages))
    for number, (bids, asks) in enumerate(messages):
        plain.set(0, bids)
        plain.set(1, asks)
        assert tuple(bests[:, number].tolist()) == plain.best()
        crossed += bool(plain.sides[0] and plain.sides[1]) and plain.best()[0] >= plain.best()[2]
    assert same(book, plain)
    assert book.crossed == crossed


@given(SIDE, SIDE, st.lists(st.tuples(SIDE, SIDE), max_size=6), st.floats(0, 1))
def test_a_snapshot_takes_the_place_of_everything(
    bids: Levels, asks: Levels, before: list[tuple[Levels, Levels]], corridor: float
) -> None:
    """Pruning keeps the levels inside the corridor."""
    book, plain = TickBook(), Plain()
    if before:
        book.apply(run_of(before))
    columns = [
        LevelArrays(
            np.array([tick for tick, _ in side], np.int64), np.array([lots for _, lots in side], np.int64)
        )
        for side in (bids, asks)
    ]
    book.load(columns[0], columns[1])
    plain.set(0, bids)
    plain.set(1, asks)
    assert same(book, plain)
    best = plain.best()
    book.prune(corridor)
    furthest = best[0] - int(abs(best[0]) * corridor), best[2] + int(abs(best[2]) * corridor)
    for side, sign in ((0, -1), (1, 1)):
        kept = {
            tick: lots for tick, lots in plain.sides[side].items() if sign * tick <= sign * furthest[side]
        }
        plain.sides[side].clear()
        plain.sides[side].update(kept)
    assert same(book, plain)


def test_tables_grow_as_far_as_a_market_goes() -> None:
    """A book with 45,000 distant levels per side is complete. Extreme prices are rejected."""
    far = np.arange(45_000, dtype=np.int64) * WINDOW
    book = TickBook()
    book.load(LevelArrays(-far, far + 1), LevelArrays(far, far + 1))
    assert book.level_counts == (45_000, 45_000)
    assert book.lots(1, int(far[-1])) == int(far[-1]) + 1
    for tick in (MAX_TICK + 1, -MAX_TICK - 1, 2**63 - 1, -(2**63)):
        for side in (0, 1):
            levels: tuple[Levels, Levels] = ([(tick, 1)], []) if side == 0 else ([], [(tick, 1)])
            with pytest.raises(MalformedDataError, match="62 bits"):
                book.apply(run_of([levels]))
            level = LevelArrays(np.array([tick]), np.array([1]))
            with pytest.raises(MalformedDataError, match="62 bits"):
                book.load(level, level)


def test_a_book_beyond_all_markets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many levels are an error in diffs and snapshots. The test lowers the limit to save memory."""
    monkeypatch.setattr(tick_book, "_MAX_SLOTS", 1 << 13)
    far = np.arange(9_000, dtype=np.int64) * WINDOW
    with pytest.raises(MalformedDataError, match="more than 2,048 levels per side"):
        TickBook().load(LevelArrays(far, far + 1), LevelArrays(far, far + 1))
    with pytest.raises(MalformedDataError, match="more than 2,048 levels per side"):
        TickBook().apply(run_of([([], [(int(tick), 1) for tick in far])]))


def test_a_book_that_wanders_stays_whole() -> None:
    """The window follows the best price over many times its width without losing levels."""
    steps = np.arange(3000, dtype=np.int64) * (WINDOW // 3)
    messages = [
        ([(int(at) - 1, 5), (int(at) - WINDOW // 2, 6)], [(int(at) + 1, 7), (int(at), 0)]) for at in steps
    ]
    book, plain = TickBook(), Plain()
    bests = book.apply(run_of(messages))
    for number, (bids, asks) in enumerate(messages):
        plain.set(0, bids)
        plain.set(1, asks)
        assert tuple(bests[:, number].tolist()) == plain.best()
    assert same(book, plain)
