"""Tests that the reference book and the compiled book are the same book, for snapshots and diffs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_pipeline.binance.decimals import UNIT
from capture_pipeline.binance.streams.messages import DepthDiff, Level
from capture_pipeline.orderbook.book import Book
from capture_pipeline.orderbook.compiled._arrays import WINDOW
from capture_pipeline.orderbook.compiled.book import LevelArrays, LevelBatch, TickBook
from capture_pipeline.orderbook.levels import decimal_text

Levels = list[tuple[int, int]]
TICKS = st.one_of(
    st.integers(1, 12), st.integers(WINDOW // 2, WINDOW // 2 + 3), st.integers(3 * WINDOW, 3 * WINDOW + 3)
)
SIDE = st.lists(st.tuples(TICKS, st.integers(0, 3)), max_size=8)
MESSAGES = st.lists(
    st.tuples(st.sampled_from(["diff"] * 6 + ["snapshot"]), SIDE, SIDE), min_size=1, max_size=30
)


def texts(levels: Levels) -> list[Level]:
    return [(decimal_text(tick * UNIT), decimal_text(lots)) for tick, lots in levels]


def arrays(levels: Levels) -> LevelArrays:
    return LevelArrays(
        np.array([tick for tick, _ in levels], np.int64), np.array([lots for _, lots in levels], np.int64)
    )


def numbers(side: LevelArrays, tick: int) -> Levels:
    return list(zip((side[0] * tick).tolist(), side[1].tolist(), strict=True))


@given(MESSAGES, st.sampled_from([1, 4]), st.integers(1, 9))
@settings(max_examples=200)
def test_both_books_are_equal_after_each_message(
    messages: list[tuple[str, Levels, Levels]], max_pending: int, count: int
) -> None:
    """Best prices, best levels and all levels are equal, for any batches of the reference book."""
    reference, compiled = Book(max_pending), TickBook()
    for number, (kind, bids, asks) in enumerate(messages):
        if kind == "snapshot":
            reference.load(texts(bids), texts(asks))
            compiled.load(arrays(bids), arrays(asks))
        else:
            reference.apply(DepthDiff(0, "X", number, number, texts(bids), texts(asks)))
            prices, lots = (np.concatenate(pair) for pair in zip(arrays(bids), arrays(asks), strict=True))
            bounds = np.array([[0], [len(bids)], [len(bids) + len(asks)]], np.int64)
            compiled.apply(LevelBatch(bounds, prices, lots))
        if number % 3 == 0:
            best = compiled.best()
            assert reference.best() == (best and (best[0] * UNIT, best[1], best[2] * UNIT, best[3]))
    for depth in (count, None):
        ours, theirs = reference.top(depth), compiled.top(depth)
        assert list(ours) == [numbers(side, UNIT) for side in theirs]
