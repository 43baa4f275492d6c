"""Defects of archive CSVs: each function returns the rows of a correct file with one defect.

Faults that concern only klines do not change files of trades, which have other columns and no close time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.binance.urls import ArchiveFile, TradesFile
from sandbox_exchange.constants import KLINES_HEADER, TRADES_HEADER
from sandbox_exchange.faults.rules import FaultRule
from sandbox_exchange.market.source import AnyFile

Rows = list[list[str]]
_OPEN, _CLOSE_TIME, _ID = 0, 6, 0
_US_FROM = 10**14
_FUTURE_US = parse_time("2100-01-01")


class _TimeColumn(NamedTuple):
    """Number of a time column, and microseconds to add when milliseconds are converted."""

    number: int
    rest_us: int


@dataclass(frozen=True)
class _Layout:
    """Columns of a kind of file.

    Attributes:
        columns: Names of the columns.
        times: The time columns.
        volume: Index of the quantity column.
        aliases: Names of kline fields, with the corresponding names in this kind of file.
    """

    columns: tuple[str, ...]
    times: tuple[_TimeColumn, ...]
    volume: int
    aliases: dict[str, str]

    @property
    def time(self) -> int:
        """Index of the first time column."""
        return self.times[0].number


_KLINES = _Layout(
    tuple(KLINES_HEADER.split(",")), (_TimeColumn(_OPEN, 0), _TimeColumn(_CLOSE_TIME, 999)), 5, {}
)
_TRADES = _Layout(
    (*TRADES_HEADER.split(","), "is_best_match"), (_TimeColumn(4, 0),), 2, {"volume": "qty", "low": "price"}
)


def _layout(file: AnyFile) -> _Layout:
    return _TRADES if isinstance(file, TradesFile) else _KLINES


def corrupt_csv(csv: bytes, file: AnyFile, rule: FaultRule) -> bytes:
    """Return a CSV with the defect of a rule; unchanged if the rule is not about the CSV."""
    if rule.fault in _TEXT:
        return _TEXT[rule.fault](csv, TRADES_HEADER if isinstance(file, TradesFile) else KLINES_HEADER)
    if rule.fault not in _ROWS:
        return csv
    lines = csv.decode().splitlines()
    header = [lines.pop(0).split(",")] if lines and lines[0][:1].isalpha() else []
    rows = [line.split(",") for line in lines]
    corrupted = _ROWS[rule.fault](rows, file, rule)
    if rule.fault in {"csv_missing_column", "csv_extra_column"}:
        header = _ROWS[rule.fault](header, file, rule) if header else header
    return "".join(",".join(row) + "\n" for row in header + corrupted).encode()


def _header(csv: bytes, header: str) -> bytes:
    """Remove the header of a file that has one, and add one to a file without."""
    return csv.split(b"\n", 1)[1] if csv[:1].isalpha() else f"{header}\n".encode() + csv


_TEXT: dict[str, Callable[[bytes, str], bytes]] = {
    "csv_empty": lambda _, __: b"",
    "csv_header": _header,
    "csv_bom": lambda csv, _: b"\xef\xbb\xbf" + csv,
    "csv_crlf": lambda csv, _: csv.replace(b"\n", b"\r\n"),
}


def _row_index(rows: Rows, rule: FaultRule) -> int:
    """Return the index of the row to change: parameter `row` or the middle row, but never the last row."""
    return max(0, min(int(rule.number("row", len(rows) // 2)), len(rows) - 2))


def _time_unit_us(row: list[str], layout: _Layout = _KLINES) -> int:
    """Return the unit of the times in a file, in microseconds."""
    return 1 if int(row[layout.time]) >= _US_FROM else 1000


def _shift_row(row: list[str], by_us: int, layout: _Layout = _KLINES) -> list[str]:
    step = by_us // _time_unit_us(row, layout)
    shifted = list(row)
    for column, _ in layout.times:
        shifted[column] = str(int(row[column]) + step)
    return shifted


def _missing_column(rows: Rows, file: AnyFile, rule: FaultRule) -> Rows:
    column = int(rule.number("cut", len(_layout(file).columns) - 2))
    return [row[:column] + row[column + 1 :] for row in rows]


def _extra_column(rows: Rows, _: AnyFile, __: FaultRule) -> Rows:
    return [[*row, "extra" if row[0][:1].isalpha() else "0"] for row in rows]


def _mixed_units(rows: Rows, file: AnyFile, rule: FaultRule) -> Rows:
    at, layout = _row_index(rows, rule), _layout(file)
    for row in rows[at:]:
        is_us = _time_unit_us(row, layout) == 1
        for column, rest in layout.times:
            row[column] = str(int(row[column]) // 1000 if is_us else int(row[column]) * 1000 + rest)
    return rows


def _duplicates(rows: Rows, _: AnyFile, rule: FaultRule) -> Rows:
    at, count = _row_index(rows, rule), int(rule.number("rows", 1))
    return rows[: at + count] + rows[at : at + count] + rows[at + count :]


def _conflicting_duplicate(rows: Rows, file: AnyFile, rule: FaultRule) -> Rows:
    at, volume = _row_index(rows, rule), _layout(file).volume
    other = list(rows[at])
    other[volume] = f"{Decimal(other[volume]) + 1:f}"
    return [*rows[: at + 1], other, *rows[at + 1 :]]


def _unordered(rows: Rows, _: AnyFile, rule: FaultRule) -> Rows:
    at = _row_index(rows, rule)
    rows[at], rows[at + 1] = rows[at + 1], rows[at]
    return rows


def _future(rows: Rows, file: AnyFile, _: FaultRule) -> Rows:
    """Append a row with a time in the future."""
    if isinstance(file, ArchiveFile):
        opens_us = int(rows[-1][_OPEN]) * _time_unit_us(rows[-1])
        return [*rows, _shift_row(rows[-1], file.interval.floor(_FUTURE_US) - opens_us)]
    last = _shift_row(rows[-1], _FUTURE_US - file.bounds.start_us, _TRADES)
    last[_ID] = str(int(last[_ID]) + 1)
    return [*rows, last]


def _unaligned(rows: Rows, file: AnyFile, rule: FaultRule) -> Rows:
    if isinstance(file, ArchiveFile):
        at = _row_index(rows, rule)
        rows[at] = _shift_row(rows[at], file.interval.us // 4 // 1000 * 1000)
    return rows


def _unclosed(rows: Rows, file: AnyFile, _: FaultRule) -> Rows:
    """Give the last kline an early close time, as if the file was written before the end of the kline."""
    if isinstance(file, ArchiveFile):
        rows[-1][_CLOSE_TIME] = str(int(rows[-1][_OPEN]) + file.interval.us // 2 // _time_unit_us(rows[-1]))
    return rows


def _other_month(rows: Rows, file: AnyFile, rule: FaultRule) -> Rows:
    """Append rows of the period after that of the file."""
    start, end = file.bounds
    appended = [_shift_row(row, end - start, _layout(file)) for row in rows[: int(rule.number("rows", 3))]]
    if isinstance(file, TradesFile):
        for number, row in enumerate(appended, int(rows[-1][_ID]) + 1):
            row[_ID] = str(number)
    return rows + appended


def _replace_value(
    default_field: str, replacement: Callable[[str], str]
) -> Callable[[Rows, AnyFile, FaultRule], Rows]:
    def corrupt(rows: Rows, file: AnyFile, rule: FaultRule) -> Rows:
        layout, name = _layout(file), rule.text("field", default_field)
        name = layout.aliases.get(name, name)
        if name in layout.columns:
            column, at = layout.columns.index(name), _row_index(rows, rule)
            rows[at][column] = rule.text("value") or replacement(rows[at][column])
        return rows

    return corrupt


_ROWS: dict[str, Callable[[Rows, AnyFile, FaultRule], Rows]] = {
    "csv_missing_column": _missing_column,
    "csv_extra_column": _extra_column,
    "csv_mixed_units": _mixed_units,
    "csv_duplicates": _duplicates,
    "csv_conflicting_duplicate": _conflicting_duplicate,
    "csv_unordered": _unordered,
    "csv_future": _future,
    "csv_unaligned": _unaligned,
    "csv_unclosed": _unclosed,
    "csv_other_month": _other_month,
    "csv_negative": _replace_value("volume", lambda text: f"-{text if Decimal(text) else '1.0'}"),
    "csv_nan": _replace_value("low", lambda _: "NaN"),
    "csv_exponent": _replace_value("volume", lambda _: "1e5"),
}
