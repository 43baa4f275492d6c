"""The kernel of klines compared with a simple reader: accepted rows, rejected rows and all values."""

from __future__ import annotations

import re
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capture_pipeline.binance.archive.klines import _kernel as kernel

ROWS = [
    (
        b"1735689600000000,93576.00000000,93610.93000000,93537.50000000,93610.93000000,8.21827000,"
        b"1735689659999999,769044.20000000,2631,4.00000001,1.00000000,0\n"
    ),
    (
        b"1609459200000,0.53400000,0.53400000,0.53370000,0.53400000,4237.10000000,1609459259999,"
        b"2262.24477000,12,0.00000000,9999999.99999999,0\n"
    ),
    b"1609459200000,-0.5,12345678.00000000,1,1.123,99999999999.99999999,1609459259999,0.1,0,1,1,0\r\n",
]
WHOLE = re.compile(rb"-?\d{1,18}\Z")
FRACTION = re.compile(rb"-?\d{1,18}(\.\d{1,8}0*)?\Z")


def parse_with_python(text: bytes) -> list[list[int]] | None:
    """Parse with Python: values in units of 1e-8 or 1; None for a rejected text."""
    rows = []
    for line in text.split(b"\n")[:-1]:
        fields = line.split(b",")
        kinds = [FRACTION if column in kernel.DECIMAL_COLUMNS else WHOLE for column in range(kernel.VALUES)]
        if len(fields) != kernel.COLUMNS or not all(
            kind.match(field) for kind, field in zip(kinds, fields[:-1], strict=True)
        ):
            return None
        scales = [10**8 if kind is FRACTION else 1 for kind in kinds]
        rows.append(
            [int(Decimal(field.decode()) * scale) for field, scale in zip(fields[:-1], scales, strict=True)]
        )
    return rows


def parse_with_kernel(text: bytes) -> list[list[int]] | None:
    """Parse with the kernel."""
    low, high, (rows, status, _, _) = kernel.parse(np.frombuffer(text, np.uint8), text.count(b"\n"))
    if status != kernel.OK:
        return None
    wide = [] if high is None else kernel.DECIMAL_COLUMNS
    words = [
        (low[column], high[column] if high is not None and column in wide else low[column] >> 63)
        for column in range(kernel.VALUES)
    ]
    return [
        [(int(upper[row]) << 64) + (int(lower[row]) & (2**64 - 1)) for lower, upper in words]
        for row in range(rows)
    ]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:2] * 9, ROWS * 5, ROWS[::-1] * 5, ROWS[2:] * 9])
def test_usual_and_unusual_rows_in_any_order(rows: list[bytes]) -> None:
    """The kernel has a fast and a general way to parse a row."""
    text = b"".join(rows)
    assert parse_with_kernel(text) == parse_with_python(text)
    assert len(parse_with_kernel(text) or []) == len(rows)


whole = st.integers(0, 10**19).map(str)
fraction = st.text("0123456789", max_size=10).map(lambda digits: f".{digits}")
number = st.builds(
    "{}{}{}".format, st.sampled_from(["", "", "", "-", "+"]), whole, st.one_of(st.just(""), fraction)
)
eight = st.builds("{}.{:08d}".format, st.integers(0, 10**8), st.integers(0, 10**8 - 1))


@given(st.lists(st.tuples(st.integers(0, 11), st.one_of(eight, number, whole)), max_size=12))
def test_any_number_in_any_column_is_taken_exactly_or_refused(changes: list[tuple[int, str]]) -> None:
    """Each changed row is between usual rows."""
    rows = []
    for column, value in changes:
        fields = ROWS[0].rstrip().split(b",")
        fields[column] = value.encode()
        rows += [b",".join(fields) + b"\n", ROWS[1]]
    text = b"".join([*rows, *ROWS[:2] * 3])
    assert parse_with_kernel(text) == parse_with_python(text)


@given(st.integers(0, 3 * len(ROWS[0]) - 1), st.binary(max_size=3), st.integers(0, 3))
@example(0, b"", 1)
def test_damaged_bytes_are_read_as_they_stand_or_refused(at: int, inserted: bytes, removed: int) -> None:
    """Bytes of three rows are replaced, removed and added; sound rows follow."""
    start = ROWS[0] * 3
    text = start[:at] + inserted + start[at + removed :] + ROWS[1] * 4
    assert parse_with_kernel(text) == parse_with_python(text)


@given(
    st.lists(
        st.binary(max_size=24).filter(lambda value: not set(value) & {0x2C, 0x0A}), min_size=1, max_size=8
    )
)
@example([b"8733.91139481", b"", b"no number", b"0\r", b"\xff"])
def test_the_ignore_column_holds_anything(values: list[bytes]) -> None:
    """The text after the eleventh comma changes no value; a twelfth comma is an error."""
    usual = [ROWS[index % 2].rsplit(b",", 1)[0] for index in range(len(values))]
    plain = b"".join(row + b",0\n" for row in usual)
    assert parse_with_kernel(
        b"".join(row + b"," + value + b"\n" for row, value in zip(usual, values, strict=True))
    ) == parse_with_kernel(plain)
    assert (
        parse_with_kernel(
            b"".join(row + b"," + value + b",\n" for row, value in zip(usual, values, strict=True))
        )
        is None
    )


def test_a_text_without_its_last_line_feed_is_not_begun() -> None:
    """The line feed guarantees that no read leaves the buffer."""
    assert parse_with_kernel(ROWS[0] * 9 + ROWS[0][:-1]) is None
    assert parse_with_kernel(b"") is None
