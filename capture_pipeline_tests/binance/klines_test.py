"""Parser of klines: exact values, unit and header from the bytes, and one clear error for all other input."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.binance.archive.klines.columns import KLINE_SCHEMA
from capture_pipeline.binance.archive.klines.interval import count_lengths, reject_other_interval
from capture_pipeline.binance.archive.klines.parser import parse_blocks, parse_csv, parse_rest
from capture_pipeline.binance.periods import Interval
from capture_pipeline.errors import MalformedDataError

ROW = "1735689600000000,1.5,2.25,1,1.75,10.12345678,1735689659999999,15.5,3,4,6.00000001,0"
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)


def with_field(column: int, value: str) -> bytes:
    fields = ROW.split(",")
    fields[column] = value
    return (",".join(fields) + "\n").encode()


def test_a_row_becomes_exact_columns() -> None:
    """Values are exact, and times are in microseconds."""
    frame = parse_csv(ROW.encode(), "f")
    assert frame.schema == pl.Schema(KLINE_SCHEMA)
    assert frame.row(0) == (
        1735689600000000,
        *map(Decimal, ("1.5", "2.25", "1", "1.75", "10.12345678")),
        1735689659999999,
        Decimal("15.5"),
        3,
        Decimal(4),
        Decimal("6.00000001"),
        "us",
    )


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("header", ["", HEADER, HEADER.upper()])
def test_header_mark_and_line_ends_change_nothing(header: str, mark: str, ending: str) -> None:
    """Header, byte order mark and carriage returns are optional."""
    newline = ending or "\n"
    text = mark + (header + newline if header else "") + ROW + newline + ROW + ending
    assert parse_csv(text.encode(), "f").equals(parse_csv(f"{ROW}\n{ROW}\n".encode(), "f"))


def test_milliseconds_become_microseconds_and_the_unit_is_kept() -> None:
    """The unit follows from the values."""
    frame = parse_csv(
        ROW.replace("1735689600000000", "1735689600000")
        .replace("1735689659999999", "1735689659999")
        .encode(),
        "f",
    )
    assert frame.select("open_time_us", "close_time_us", "time_unit").row(0) == (
        1735689600000000,
        1735689659999000,
        "ms",
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "contains no rows"),
        (HEADER.encode() + b"\n", "contains no rows"),
        (b"\xef\xbb\xbf", "contains no rows"),
        (b"open_time,close\n1,2\n", "has another header"),
        (b"<html><body>Sorry</body></html>", "line 1, column 1: a digit was expected"),
        (b"1,2,3\n", "line 1, column 3: a row has fewer than 12 columns"),
        (ROW.encode() + b",9\n", "line 1, column 12: a row has more than 12 columns"),
        (f"{ROW}\n\n".encode(), "line 2, column 1: a digit was expected"),
        (with_field(5, "NaN"), "line 1, column 6: a digit was expected, found b'NaN"),
        (with_field(5, "inf"), "line 1, column 6"),
        (with_field(5, "1e5"), "line 1, column 6: a comma or the end of the line was expected, found b'1e5'"),
        (with_field(5, ""), "line 1, column 6: a digit was expected"),
        (with_field(5, " 1"), "line 1, column 6: a digit was expected"),
        (with_field(5, "+1"), "line 1, column 6: a digit was expected"),
        (with_field(5, '"1"'), "line 1, column 6: a digit was expected"),
        (with_field(5, "1."), "line 1, column 6: a digit was expected"),
        (with_field(5, "1.2.3"), "line 1, column 6: a comma"),
        (with_field(5, "--1"), "line 1, column 6: a digit was expected"),
        (with_field(5, "1.123456789"), "line 1, column 6: a number has more than eight decimals"),
        (with_field(5, "1234567890123456789"), "line 1, column 6: a number has more than 18 digits"),
        (with_field(1, "12345678901.5"), "line 1: a price has more than ten digits"),
        (with_field(2, "10000000000"), "line 1: a price has more than ten digits"),
        (with_field(3, "-10000000000"), "line 1: a price has more than ten digits"),
        # The low 64 bits of these values are equal to those of a small price.
        (with_field(4, "184467440737.09551617"), "line 1: a price has more than ten digits"),
        (with_field(1, "-184467440738"), "line 1: a price has more than ten digits"),
        (with_field(8, "1.5"), "line 1, column 9: a comma"),
        (with_field(0, "17356896000"), "line 1: open time 17356896000 is not a time"),
        (with_field(0, "1735689600000000000"), "column 1: a number has more than 18 digits"),
        (with_field(6, "100000000000000000"), "line 1: close time 100000000000000000 is not a time"),
        (with_field(6, "-100000000000000"), "line 1: close time -100000000000000 is not a time"),
        (ROW.encode()[:-2], "line 1, column 11: a row has fewer than 12 columns"),
        (f"{ROW}\n{ROW[:40]}".encode(), "line 2, column"),
    ],
)
def test_what_is_no_kline_is_refused_with_its_place(content: bytes, told: str) -> None:
    """The error contains file, line and column."""
    with pytest.raises(MalformedDataError) as caught:
        parse_csv(content, "f.csv")
    assert told in str(caught.value)
    assert str(caught.value).startswith("f.csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("price", ["9999999999.99999999", "-9999999999.99999999"])
def test_price_of_ten_digits_is_kept(price: str) -> None:
    """The largest accepted price, and the smallest rejected one."""
    for column, name in enumerate(("open", "high", "low", "close"), 1):
        assert parse_csv(with_field(column, price), "f")[name].to_list() == [Decimal(price)]


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize(
    "whole", [91_999_999_999, 92_000_000_000, 92_233_720_368, 92_500_000_000, 184_467_440_737, 10**18 - 1]
)
def test_wide_decimal_is_exact_around_64_bits(whole: int, sign: str) -> None:
    """The largest 64-bit number in units of 1e-8 is 92,233,720,368.54775807."""
    for fraction in ("54775807", "54775808", "00000000", "99999999"):
        value = f"{sign}{whole}.{fraction}"
        assert parse_csv(with_field(5, value) + with_field(5, "1"), "f")["volume"].to_list() == [
            Decimal(value),
            Decimal(1),
        ]


decimals = st.builds(
    lambda sign, whole, fraction: f"{sign}{whole}" + (f".{fraction}" if fraction else ""),
    st.sampled_from(["", "-"]),
    st.integers(0, 10**18 - 1),
    st.text("0123456789", max_size=8),
)


@given(st.lists(decimals, min_size=1, max_size=20))
def test_every_decimal_the_exchange_can_write_is_kept_exactly(values: list[str]) -> None:
    """Up to 18 digits before the point and eight after it, with or without a sign."""
    content = b"".join(with_field(5, value) for value in values)
    assert parse_csv(content, "f")["volume"].to_list() == [Decimal(value) for value in values]


@given(st.binary(max_size=300))
def test_no_bytes_do_harm(content: bytes) -> None:
    """Any bytes give rows or a `MalformedDataError`, never another error."""
    try:
        frame = parse_csv(content, "f")
    except MalformedDataError:
        return
    assert frame.height


@given(st.data())
def test_a_damaged_byte_is_refused_or_changes_only_its_own_field(data: st.DataObject) -> None:
    """A flipped byte never moves a value to another column."""
    content = bytearray(f"{ROW}\n{ROW}\n{ROW}\n".encode())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    try:
        frame = parse_csv(bytes(content), "f")
    except MalformedDataError:
        return
    whole = parse_csv(f"{ROW}\n{ROW}\n{ROW}\n".encode(), "f")
    differing = sum(frame[name].to_list() != whole[name].to_list() for name in whole.columns)
    assert frame.height == whole.height
    assert differing <= 1


def test_a_rest_answer_gives_the_same_rows_as_the_archive() -> None:
    """In REST answers, prices are strings and times are integers."""
    fields = ROW.split(",")
    row: list[object] = [int(value) if index in {0, 6, 8} else value for index, value in enumerate(fields)]
    assert parse_rest(json.dumps([row]).encode(), "r").equals(parse_csv(ROW.encode(), "f"))
    assert parse_rest(b"[]", "r").height == 0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>", "is not JSON"),
        (b'{"code":-1121,"msg":"Invalid symbol."}', "is not an array"),
        (b"[1]", "row 1: a row of 12 was expected"),
        (b"[[1,2]]", "row 1: a row of 12 was expected"),
        (
            json.dumps(
                [[1735689600000, 1.5, "2", "1", "1", "1", 1735689659999, "1", 1, "1", "1", "0"]]
            ).encode(),
            "column 2: str was expected, found 1.5",
        ),
        (
            json.dumps([["1735689600000", "1", "2", "1", "1", "1", 1, "1", 1, "1", "1", "0"]]).encode(),
            "column 1: int was expected",
        ),
        (
            json.dumps([[1735689600000, "1,2", "2", "1", "1", "1", 1, "1", 1, "1", "1", "0"]]).encode(),
            "column 13",
        ),
        (
            json.dumps([[True, "1", "2", "1", "1", "1", 1, "1", 1, "1", "1", "0"]]).encode(),
            "column 1: int was expected, found True",
        ),
    ],
)
def test_what_is_no_rest_answer_is_refused(body: bytes, told: str) -> None:
    """A number instead of a string is rejected, because it is not exact."""
    with pytest.raises(MalformedDataError) as caught:
        parse_rest(body, "GET klines")
    assert told in str(caught.value).replace("column 12", "column 13")


@pytest.mark.parametrize("ignored", [0, "0", "8733.91139481", None, "", [], "a text"])
def test_the_last_value_of_a_rest_row_is_not_interpreted(ignored: object) -> None:
    """The exchange documents the last value as unused."""
    row = [1735689600000, "1", "1", "1", "1", "1", 1735689659999, "1", 1, "1", "1"]
    assert parse_rest(json.dumps([[*row, ignored]]).encode(), "r").equals(
        parse_rest(json.dumps([[*row, "0"]]).encode(), "r")
    )


def test_the_name_of_the_last_column_counts_as_little_as_its_content() -> None:
    """The last column is not used."""
    assert parse_csv(f"{HEADER.removesuffix('ignore')}unused\n{ROW}\n".encode(), "f").height == 1


def test_each_row_has_the_unit_of_its_own_times() -> None:
    """The unit may change inside a file, and a close time may have no recognisable unit."""
    milliseconds = ROW.replace("1735689600000000", "1735689660000").replace(
        "1735689659999999", "1735689719999"
    )
    frame = parse_csv(
        f"{ROW}\n{milliseconds}\n".encode() + with_field(6, "0") + with_field(6, "1735689659999"), "f"
    )
    assert frame.select("open_time_us", "close_time_us", "time_unit").rows() == [
        (1735689600000000, 1735689659999999, "us"),
        (1735689660000000, 1735689719999000, "ms"),
        (1735689600000000, 0, "us"),
        (1735689600000000, 1735689659999000, "us"),
    ]


MINUTE, QUARTER, DAY = (Interval(name).us for name in ("1m", "15m", "1d"))


@pytest.mark.parametrize(
    ("lengths", "refused"),
    [
        ([MINUTE] * 9, False),
        ([MINUTE] * 5 + [QUARTER] * 4, False),
        ([MINUTE] * 4 + [QUARTER] * 5, True),
        ([QUARTER], True),
        ([DAY, DAY], True),
        ([MINUTE // 60], False),
        ([MINUTE // 60] * 2, True),
        ([MINUTE // 7] * 9, False),
        ([MINUTE // 7] * 4 + [QUARTER] * 4, False),
        ([], False),
    ],
    ids=str,
)
def test_a_table_is_of_another_interval_if_most_rows_have_its_length(
    lengths: list[int], refused: bool
) -> None:
    """A halt may cut one kline to any length.

    Rows with odd lengths are irregular rows of the same interval.
    """
    start = 1735689600000000
    opens = [start + sum(lengths[:index]) for index in range(len(lengths))]
    times = {
        "open_time_us": opens,
        "close_time_us": [at + length - 1 for at, length in zip(opens, lengths, strict=True)],
    }
    rows = pl.DataFrame(
        {**times, "time_unit": ["us"] * len(lengths)},
        schema={**dict.fromkeys(times, pl.Int64), "time_unit": pl.String},
    )
    with pytest.raises(MalformedDataError, match="not of 1m") if refused else contextlib.nullcontext():
        reject_other_interval(count_lengths(rows, Interval.M1), Interval.M1, "f")


def _parse_or_error(parse: Callable[[], pl.DataFrame]) -> object:
    """Return the rows, or the text of the error."""
    try:
        return parse().rows()
    except MalformedDataError as error:
        return str(error)


@given(
    st.lists(st.sampled_from([ROW, ROW.replace("1735689600", "1735689660")]), max_size=5),
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["", "", "x", "1,2", ROW.replace("1735689600000000", "1735689600000"), "1" + ROW]),
    ),
    st.sampled_from(["", "\ufeff", HEADER + "\n", "\ufeff" + HEADER + "\r\n"]),
    st.booleans(),
    st.lists(st.integers(0, 700), max_size=6).map(sorted),
)
def test_blocks_are_parsed_as_the_whole_file_is(
    rows: list[str], odd: tuple[int, str], head: str, ends: bool, cuts: list[int]
) -> None:
    """The result does not depend on the places where the file is cut."""
    rows = [*rows[: odd[0]], *filter(None, odd[1:]), *rows[odd[0] :]]
    content = (head + "\n".join(rows) + ("\n" if ends and rows else "")).encode()
    blocks = [content[start:end] for start, end in itertools.pairwise([0, *cuts, len(content)])]
    assert _parse_or_error(lambda: pl.concat(parse_blocks(blocks, "f"))) == _parse_or_error(
        lambda: parse_csv(content, "f")
    )
