"""Tests of one side of a book: exact numbers, and the same levels as a plain dictionary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.book import Book
from capture_pipeline.orderbook.levels import ZERO, Side, decimal_text, to_units

CHANGE = st.tuples(
    st.integers(1, 40).map(lambda tick: f"{tick}.50000000"),
    st.sampled_from([ZERO, "1.00000000", "0.00000001", "2.5"]),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2683.80000000", 268380000000),
        ("0.00000001", 1),
        ("0.00000000", 0),
        ("92233720368.54775807", 9223372036854775807),
        ("123456789012.00000001", 12345678901200000001),
        ("5", 500000000),
        ("5.", 500000000),
        ("0.1", 10000000),
        ("0.1000000000", 10000000),
    ],
)
def test_a_decimal_is_parsed_exactly(text: str, expected: int) -> None:
    """Every decimal with up to eight decimals, and further zeros, is converted exactly."""
    assert to_units(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        ".00000001",
        "-1.00000000",
        "+1.00000000",
        "1_0.00000000",
        " 1.00000000",
        "1e5",
        "NaN",
        "1.000000001",
        "1.2.00000000",
        "١.00000000",
    ],
)
def test_what_is_no_decimal_is_refused(text: str) -> None:
    """Signs, exponents, blanks, underscores, other digits and a ninth decimal are errors."""
    with pytest.raises(MalformedDataError):
        to_units(text)
    with pytest.raises(MalformedDataError):
        Side(1).apply([("1.00000000", "1.00000000"), (text, "1.00000000")])
    with pytest.raises(MalformedDataError):
        Side(1).apply([("1.00000000", "1.00000000"), ("2.00000000", text)])


@given(st.integers(0, 10**20))
def test_a_decimal_survives_being_written(value: int) -> None:
    """Formatting and parsing return the same number."""
    assert to_units(decimal_text(value)) == value


@given(st.lists(st.lists(CHANGE, max_size=12), max_size=30), st.sampled_from([-1, 1]))
def test_a_side_is_what_its_changes_say(batches: list[list[tuple[str, str]]], sign: int) -> None:
    """After any changes, levels, best price and top levels equal those of a plain dictionary."""
    side, plain = Side(sign), dict[int, int]()
    for changes in batches:
        side.apply(changes)
        for price, quantity in changes:
            plain[to_units(price)] = to_units(quantity)
        plain = {price: quantity for price, quantity in plain.items() if quantity}
        ranked = sorted(plain, reverse=sign < 0)
        assert side.best() == (ranked[0] if ranked else None)
        assert side.top(3) == [(price, plain[price]) for price in ranked[:3]]
    assert {price: side.quantity(price) for price in side.levels} == plain


@pytest.mark.parametrize("is_read", [False, True])
def test_flicker_does_not_grow_a_side(is_read: bool) -> None:
    """Memory does not grow when levels are added and removed many times."""
    side = Side(1)
    for tick in range(20_000):
        side.apply([(f"{tick % 7000}.00000000", "1.00000000")])
        side.apply([(f"{tick % 7000}.00000000", ZERO)])
        if is_read:
            assert side.best() is None
    assert not side.levels
    assert len(side._heap or []) <= len(side._quantities) <= (0 if is_read else 4096)


@pytest.mark.parametrize(
    ("bid", "ask", "crossed"),
    [
        ("1.00000000", "2.00000000", False),
        ("2.00000000", "2.00000000", True),
        ("3.00000000", "2.00000000", True),
    ],
)
def test_a_book_is_crossed_where_the_bid_reaches_the_ask(bid: str, ask: str, crossed: bool) -> None:
    """Equal prices are crossed; a book with an empty side is not."""
    book = Book()
    book.bids.apply([(bid, "1.00000000")])
    assert not book.crossed
    assert book.best() is None
    book.asks.apply([(ask, "2.00000000")])
    assert book.crossed is crossed
    assert book.best() == (to_units(bid), to_units("1"), to_units(ask), to_units("2"))


def test_a_snapshot_replaces_what_it_reaches_and_keeps_what_lies_beyond() -> None:
    """Levels beyond the last level of a snapshot stay."""
    side = Side(-1)
    side.apply([("10.00000000", "1.00000000"), ("9.00000000", "1.00000000"), ("5.00000000", "1.00000000")])
    side.merge([("9.50000000", "2.00000000"), ("8.00000000", "2.00000000")])
    assert side.top(9) == [
        (to_units("9.5"), to_units("2")),
        (to_units("8"), to_units("2")),
        (to_units("5"), to_units("1")),
    ]
    assert side.known_rank == -to_units("8")
