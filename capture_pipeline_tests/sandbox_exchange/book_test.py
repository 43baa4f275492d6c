"""Tests of the synthetic book: snapshots, diffs and best prices agree."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_pipeline.binance.periods import DAY_US, parse_time
from capture_pipeline.binance.urls import Market
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.market.book import IDS_PER_SLOT, SLOT_US, Book, SideChanges, Snapshot
from sandbox_exchange.market.market import SyntheticMarket

DAY = parse_time("2024-12-31")
OUTAGES = [
    {"start": "2024-12-31T10:00", "end": "2024-12-31T11:30"},
    {"start": "2024-12-31T11:30:00.250", "end": "2024-12-31T11:30:00.290"},
    {"start": "2024-12-31T12:00:00.040", "end": "2024-12-31T12:00:00.360"},
]
MARKET = SyntheticMarket(SandboxConfig.model_validate({"outages": OUTAGES}))
SYMBOLS = st.sampled_from(["BTCUSDT", "ETHUSDT", "XRPUSDT"])
# Many of the times are close to an outage, to midnight or to the listing.
SPECIAL = [
    DAY + 10 * 3_600_000_000,
    DAY + 11 * 3_600_000_000 + 1_800_000_000,
    DAY + 12 * 3_600_000_000,
    DAY + DAY_US,
]
TIMES = st.one_of(
    st.integers(parse_time("2024-01-01"), DAY + 2 * DAY_US),
    st.tuples(st.sampled_from(SPECIAL), st.integers(-30_000_000, 30_000_000)).map(sum),
    st.integers(0, 200).map(lambda slots: parse_time("2024-01-01") + slots * SLOT_US),
)


def book_of(symbol: str) -> Book:
    return MARKET.book(Market.SPOT, symbol)


def apply(levels: dict[int, int], side: SideChanges, number: int) -> None:
    part = slice(int(side.bounds[number]), int(side.bounds[number + 1]))
    for price, quantity in zip(side.price[part].tolist(), side.quantity[part].tolist(), strict=True):
        if quantity:
            levels[price] = quantity
        else:
            levels.pop(price, None)


def assert_same(bids: dict[int, int], asks: dict[int, int], first: Snapshot, last: Snapshot) -> None:
    """Check that two books are equal between the outermost levels that both contain."""
    low = max(int(shot.bids[-1, 0]) if len(shot.bids) else 0 for shot in (first, last))
    high = min(int(shot.asks[-1, 0]) for shot in (first, last))
    assert low < high
    for mine, theirs in ((bids, last.bids), (asks, last.asks)):
        assert {p: q for p, q in mine.items() if low <= p <= high} == {
            p: q for p, q in theirs.tolist() if low <= p <= high
        }


@settings(max_examples=25)
@given(symbol=SYMBOLS, at=TIMES, length=st.integers(1, 400), step=st.sampled_from([1, 10]))
def test_snapshot_plus_diffs_is_the_later_snapshot(symbol: str, at: int, length: int, step: int) -> None:
    """Diffs of any length lead from one snapshot to the next, with contiguous ids."""
    book = book_of(symbol)
    first = book.last_changed_slot(at) // step * step
    end = first + -(-length // step) * step
    before, after = (
        book.snapshot(book.previous_open_slot(first), 5000),
        book.snapshot(book.previous_open_slot(end), 5000),
    )
    bids, asks = dict(before.bids.tolist()), dict(before.asks.tolist())
    diffs, expected = book.diffs(first, end, step), before.last_update_id + 1
    for number in range(len(diffs.last_id)):
        assert diffs.first_id[number] == expected <= diffs.last_id[number]
        expected = int(diffs.last_id[number]) + 1
        apply(bids, diffs.bids, number)
        apply(asks, diffs.asks, number)
    assert expected == after.last_update_id + 1
    assert_same(bids, asks, before, after)


@settings(max_examples=30)
@given(symbol=SYMBOLS, at=TIMES, length=st.integers(1, 300), cut=st.integers(0, 300))
def test_diffs_do_not_depend_on_how_time_is_cut(symbol: str, at: int, length: int, cut: int) -> None:
    """The diffs of a period are those of its two parts."""
    book, first = book_of(symbol), book_of(symbol).last_changed_slot(at)
    cut = min(cut, length)
    whole = book.diffs(first, first + length)
    parts = [book.diffs(first, first + cut), book.diffs(first + cut, first + length)]
    assert np.array_equal(whole.first_id, np.concatenate([part.first_id for part in parts]))
    for name in ("bids", "asks"):
        for column in ("price", "quantity"):
            joined = np.concatenate([getattr(getattr(part, name), column) for part in parts])
            assert np.array_equal(getattr(getattr(whole, name), column), joined)


@settings(max_examples=25)
@given(symbol=SYMBOLS, at=TIMES)
def test_best_prices_are_those_of_the_snapshot(symbol: str, at: int) -> None:
    """Best prices are those of the snapshots; without a message they do not change."""
    book, first = book_of(symbol), book_of(symbol).last_changed_slot(at)
    best = book.best(first, first + 20)
    best_by_id = dict(zip(best.last_id.tolist(), best.rows.tolist(), strict=True))
    previous = book.snapshot(book.previous_open_slot(first), 5)
    for slot in book.open_slots(first, first + 20).tolist():
        shot = book.snapshot(slot, 5)
        now, then = ([*shot.bids[0], *shot.asks[0]] for shot in (shot, previous))
        assert best_by_id.get(shot.last_update_id, then) == now
        previous = shot


@settings(max_examples=25)
@given(symbol=SYMBOLS, at=TIMES)
def test_sides_are_in_order_and_do_not_cross(symbol: str, at: int) -> None:
    """Bids descend, asks ascend, the book is not crossed, and fewer levels are the best levels."""
    book = book_of(symbol)
    shot = book.snapshot(book.last_changed_slot(at), 500)
    assert all(high > low for high, low in pairwise(shot.bids[:, 0].tolist()))
    assert all(high > low for low, high in pairwise(shot.asks[:, 0].tolist()))
    assert shot.bids[0, 0] < shot.asks[0, 0]
    assert (shot.bids[:, 1] > 0).all()
    assert np.array_equal(book.snapshot(book.last_changed_slot(at), 20).asks, shot.asks[:20])


@settings(max_examples=25)
@given(at=TIMES, inside=st.integers(0, 9))
def test_merged_diffs_bridge_from_a_snapshot_inside_of_them(at: int, inside: int) -> None:
    """A merged diff is valid after any snapshot of its period, as it contains all changed levels."""
    book = book_of("BTCUSDT")
    first = book.last_changed_slot(at) // 10 * 10
    slots = book.open_slots(first, first + 10)
    if len(slots) <= inside:
        return
    before, after = book.snapshot(int(slots[inside]), 5000), book.snapshot(int(slots[-1]), 5000)
    bids, asks, merged = (
        dict(before.bids.tolist()),
        dict(before.asks.tolist()),
        book.diffs(first, first + 10, 10),
    )
    apply(bids, merged.bids, 0)
    apply(asks, merged.asks, 0)
    assert merged.first_id[0] <= before.last_update_id + 1
    assert_same(bids, asks, before, after)


def test_a_diff_holds_nothing_that_did_not_change() -> None:
    """Each level in a diff of one slot differs from the previous book."""
    book = book_of("BTCUSDT")
    first = book.last_changed_slot(DAY)
    shot, diffs = book.snapshot(first - 1, 5000), book.diffs(first, first + 200)
    for start, side in ((shot.bids, diffs.bids), (shot.asks, diffs.asks)):
        levels = dict(start.tolist())
        for number in range(200):
            for price, quantity in zip(
                *(
                    c[side.bounds[number] : side.bounds[number + 1]].tolist()
                    for c in (side.price, side.quantity)
                ),
                strict=True,
            ):
                assert levels.get(price, 0) != quantity
            apply(levels, side, number)


def test_each_open_slot_has_one_diff_and_an_outage_has_none() -> None:
    """There is one diff per open slot; ids continue after an outage."""
    book = book_of("ETHUSDT")
    start, end = parse_time("2024-12-31T09:59:50"), parse_time("2024-12-31T11:31:00")
    first = (start - book.slot_time(0)) // SLOT_US
    diffs = book.diffs(first, (end - book.slot_time(0)) // SLOT_US)
    steps = np.diff(diffs.time_us)
    # 90 minutes are missing, and one slot of the short outage after them.
    assert sorted(set(steps.tolist())) == [SLOT_US, 90 * 60_000_000 + SLOT_US]
    assert (diffs.first_id[1:] == diffs.last_id[:-1] + 1).all()
    used = diffs.last_id - diffs.first_id + 1
    assert used[steps.argmax() + 1] > 5000 * IDS_PER_SLOT
    assert len(set(used.tolist())) > 50
    inside = book.last_changed_slot(parse_time("2024-12-31T10:40"))
    assert book.slot_time(inside) == parse_time("2024-12-31T10:00") - SLOT_US


def test_there_is_nothing_before_the_listing_and_after_the_delisting() -> None:
    """The first slot is the listing, and no slot follows the delisting."""
    spec = {"symbol": "NEWUSDT", "listed": "2024-06-05T08:30", "delisted": "2024-06-05T08:31"}
    book = SyntheticMarket(SandboxConfig.model_validate({"symbols": [spec]})).book(Market.SPOT, "NEWUSDT")
    diffs = book.diffs(-50, 5000)
    assert (diffs.time_us[0], diffs.time_us[-1]) == (
        parse_time("2024-06-05T08:30"),
        parse_time("2024-06-05T08:30:59.9"),
    )
    assert book.last_changed_slot(parse_time("2024-06-04")) == -1
    assert book.last_changed_slot(parse_time("2025-06-04")) == 599


@pytest.mark.parametrize("symbol", ["BTCUSDT", "DOGEUSDT"])
def test_diffs_are_small_and_quick(symbol: str) -> None:
    """A diff has 10 to 20 levels on average, and thousands of diffs are built per second."""
    book, first = book_of(symbol), book_of(symbol).last_changed_slot(DAY)
    begin = time.process_time()
    parts = [book.diffs(start, start + 250) for start in range(first, first + 5000, 250)]
    spent = time.process_time() - begin
    levels = sum(len(part.bids.price) + len(part.asks.price) for part in parts)
    assert 8 * 5000 < levels < 20 * 5000
    assert spent < 2.5
