"""Tests of the reference book: batches of diffs, any format of the texts, snapshots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.binance.streams.messages import DepthDiff, DepthSnapshot, Level
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.audit import AuditOutcome
from capture_pipeline.orderbook.book import Book
from capture_pipeline.orderbook.levels import ZERO, decimal_text, to_units
from capture_pipeline.orderbook.local_book import LocalBook
from capture_pipeline.orderbook.synchronization import State, Step
from capture_pipeline.recorder.background.book_follower import MAX_PENDING

PRICE = st.tuples(st.integers(1, 30), st.sampled_from(["", ".0", ".00000000", ".5", ".50", ".50000000"])).map(
    lambda found: f"{found[0]}{found[1]}"
)
QUANTITY = st.sampled_from([ZERO, "0", "0.000", "1.00000000", "1", "0.00000001", "2.50"])
LEVELS = st.lists(st.tuples(PRICE, QUANTITY), max_size=6)


def diff(number: int, bids: list[Level], asks: list[Level]) -> DepthDiff:
    return DepthDiff(0, "BTCUSDT", number, number, bids, asks)


@given(st.lists(st.tuples(LEVELS, LEVELS), max_size=40), st.sets(st.integers(0, 39)))
def test_a_book_of_texts_is_the_book_of_numbers(
    diffs: list[tuple[list[Level], list[Level]]], looked: set[int]
) -> None:
    """After any diffs, prices and quantities equal those of the plain book, for any format of a price."""
    texts, numbers = Book(MAX_PENDING, is_pruned=True), Book()
    for number, (bids, asks) in enumerate(diffs):
        texts.apply(diff(number, bids, asks))
        numbers.apply(diff(number, bids, asks))
        if number in looked:
            assert same(texts, numbers)
    assert same(texts.copy(), numbers)


def same(one: Book, other: Book) -> bool:
    return all(
        {price: ours.quantity(price) for price in ours.levels}
        == {price: theirs.quantity(price) for price in theirs.levels}
        and ours.best() == theirs.best()
        for ours, theirs in ((one.bids, other.bids), (one.asks, other.asks))
    )


def test_diffs_are_set_a_few_hundred_together() -> None:
    """A malformed level raises an error when the batch is applied or the book is read."""
    book = Book(MAX_PENDING, is_pruned=True)
    book.apply(diff(0, [("1.00000000", "x")], []))
    for number in range(1, MAX_PENDING - 1):
        book.apply(diff(number, [], []))
    with pytest.raises(MalformedDataError):
        book.apply(diff(MAX_PENDING, [], []))
    book.apply(diff(0, [], [("1e5", "1.00000000")]))
    with pytest.raises(MalformedDataError):
        book.best()


def test_levels_that_come_and_go_leave_nothing_behind() -> None:
    """Memory depends on the present levels, not on all earlier levels."""
    book = Book(MAX_PENDING, is_pruned=True)
    for number in range(1, 40 * MAX_PENDING):
        book.apply(diff(number, [(f"{number}.00000000", "1.00000000"), (f"{number - 1}.00000000", ZERO)], []))
    assert len(book.bids.levels) == 1
    assert len(book._bids._quantities) < 5000


def test_a_snapshot_replaces_everything() -> None:
    """A snapshot replaces also levels beyond its worst price."""
    book = Book(MAX_PENDING, is_pruned=True)
    book.apply(diff(0, [("5.00000000", "1.00000000")], []))
    book.load([("9.50000000", "2.00000000"), ("8.0", "2")], [])
    side = book.bids
    assert side.top(9) == [(to_units("9.5"), to_units("2")), (to_units("8"), to_units("2"))]
    assert side.known_rank == -to_units("8")


def test_an_audit_of_texts_goes_on_from_the_snapshot() -> None:
    """An audit has the result of a book of numbers, and later diffs are in the book afterwards."""
    sync = LocalBook(Book(MAX_PENDING))
    assert (
        sync.process_snapshot(
            DepthSnapshot(1, [("10.00000000", "1.00000000")], [("11.00000000", "1.00000000")])
        )
        is Step.LOADED
    )
    sync.process_diff(diff(2, [("9.00000000", "1.00000000")], []))
    sync.start_audit()
    sync.process_diff(diff(3, [("10.00000000", "2.00000000")], []))
    sync.process_diff(diff(4, [("8.00000000", "3.00000000")], []))
    taken = DepthSnapshot(
        3, [("10.00000000", "2.00000000"), ("9.00000000", "1.00000000")], [("11.00000000", "1.00000000")]
    )
    audit = sync.audit(taken)
    assert (audit.outcome, audit.is_clean, sync.state) == (AuditOutcome.COMPARED, True, State.SYNCED)
    assert [(decimal_text(price), decimal_text(size)) for price, size in sync.book.bids.top(9)] == [
        ("10.00000000", "2.00000000"),
        ("9.00000000", "1.00000000"),
        ("8.00000000", "3.00000000"),
    ]
