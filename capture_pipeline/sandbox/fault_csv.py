"""Archive CSVs with a defect: each function takes the rows of a good file and spoils them."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.binance.urls import ArchiveFile
from capture_pipeline.sandbox.fault_script import FaultRule
from capture_pipeline.sandbox.frames import HEADER

Rows = list[list[str]]
_OPEN, _VOLUME, _CLOSE_TIME = 0, 5, 6
_COLUMNS = HEADER.split(",")
_US_FROM = 10**14
_FUTURE_US = parse_time("2100-01-01")


def spoil_csv(csv: bytes, file: ArchiveFile, rule: FaultRule) -> bytes:
    """A CSV with the defect of a rule; unchanged if the rule is about something else."""
    if rule.fault in _TEXT:
        return _TEXT[rule.fault](csv)
    if rule.fault not in _ROWS:
        return csv
    lines = csv.decode().splitlines()
    header = [lines.pop(0).split(",")] if lines and lines[0][:1].isalpha() else []
    rows = [line.split(",") for line in lines]
    spoilt = _ROWS[rule.fault](rows, file, rule)
    if rule.fault in {"csv_missing_column", "csv_extra_column"}:
        header = _ROWS[rule.fault](header, file, rule) if header else header
    return "".join(",".join(row) + "\n" for row in header + spoilt).encode()


def _header(csv: bytes) -> bytes:
    """A header where none is expected, none where one is."""
    return csv.split(b"\n", 1)[1] if csv[:1].isalpha() else f"{HEADER}\n".encode() + csv


_TEXT: dict[str, Callable[[bytes], bytes]] = {
    "csv_empty": lambda _: b"",
    "csv_header": _header,
    "csv_bom": lambda csv: b"\xef\xbb\xbf" + csv,
    "csv_crlf": lambda csv: csv.replace(b"\n", b"\r\n"),
}


def _at(rows: Rows, rule: FaultRule) -> int:
    """The row that is hit: the parameter `row`, or the middle one; never past the last but one, so that a successor exists."""
    return max(0, min(int(rule.number("row", len(rows) // 2)), len(rows) - 2))


def _unit(row: list[str]) -> int:
    """Microseconds a unit of the file's times."""
    return 1 if int(row[_OPEN]) >= _US_FROM else 1000


def _shifted(row: list[str], by_us: int) -> list[str]:
    step = by_us // _unit(row)
    return [str(int(row[_OPEN]) + step), *row[1:_CLOSE_TIME], str(int(row[_CLOSE_TIME]) + step), *row[_CLOSE_TIME + 1 :]]


def _missing_column(rows: Rows, _: ArchiveFile, rule: FaultRule) -> Rows:
    column = int(rule.number("cut", len(_COLUMNS) - 2))
    return [row[:column] + row[column + 1 :] for row in rows]


def _extra_column(rows: Rows, _: ArchiveFile, __: FaultRule) -> Rows:
    return [[*row, "extra" if row[0][:1].isalpha() else "0"] for row in rows]


def _mixed_units(rows: Rows, _: ArchiveFile, rule: FaultRule) -> Rows:
    at = _at(rows, rule)
    for row in rows[at:]:
        is_us = _unit(row) == 1
        for column, rest in ((_OPEN, 0), (_CLOSE_TIME, 999)):
            row[column] = str(int(row[column]) // 1000 if is_us else int(row[column]) * 1000 + rest)
    return rows


def _duplicates(rows: Rows, _: ArchiveFile, rule: FaultRule) -> Rows:
    at, count = _at(rows, rule), int(rule.number("rows", 1))
    return rows[: at + count] + rows[at : at + count] + rows[at + count :]


def _conflicting(rows: Rows, _: ArchiveFile, rule: FaultRule) -> Rows:
    at = _at(rows, rule)
    other = list(rows[at])
    other[_VOLUME] = f"{Decimal(other[_VOLUME]) + 1:f}"
    return [*rows[: at + 1], other, *rows[at + 1 :]]


def _unordered(rows: Rows, _: ArchiveFile, rule: FaultRule) -> Rows:
    at = _at(rows, rule)
    rows[at], rows[at + 1] = rows[at + 1], rows[at]
    return rows


def _future(rows: Rows, file: ArchiveFile, _: FaultRule) -> Rows:
    """One candle more, whose time has not come."""
    opens_us = int(rows[-1][_OPEN]) * _unit(rows[-1])
    return [*rows, _shifted(rows[-1], file.interval.floor(_FUTURE_US) - opens_us)]


def _unaligned(rows: Rows, file: ArchiveFile, rule: FaultRule) -> Rows:
    at = _at(rows, rule)
    rows[at] = _shifted(rows[at], file.interval.us // 4 // 1000 * 1000)
    return rows


def _unclosed(rows: Rows, file: ArchiveFile, _: FaultRule) -> Rows:
    """The last candle was written before it was over: its close time is too early."""
    rows[-1][_CLOSE_TIME] = str(int(rows[-1][_OPEN]) + file.interval.us // 2 // _unit(rows[-1]))
    return rows


def _other_month(rows: Rows, file: ArchiveFile, rule: FaultRule) -> Rows:
    """Rows of the time after the file's own, as if they were written into the wrong file."""
    start, end = file.bounds
    return rows + [_shifted(row, end - start) for row in rows[: int(rule.number("rows", 3))]]


def _value(default_field: str, make: Callable[[str], str]) -> Callable[[Rows, ArchiveFile, FaultRule], Rows]:
    def spoil(rows: Rows, _: ArchiveFile, rule: FaultRule) -> Rows:
        column, at = _COLUMNS.index(rule.text("field", default_field)), _at(rows, rule)
        rows[at][column] = rule.text("value") or make(rows[at][column])
        return rows

    return spoil


_ROWS: dict[str, Callable[[Rows, ArchiveFile, FaultRule], Rows]] = {
    "csv_missing_column": _missing_column,
    "csv_extra_column": _extra_column,
    "csv_mixed_units": _mixed_units,
    "csv_duplicates": _duplicates,
    "csv_conflicting_duplicate": _conflicting,
    "csv_unordered": _unordered,
    "csv_future": _future,
    "csv_unaligned": _unaligned,
    "csv_unclosed": _unclosed,
    "csv_other_month": _other_month,
    "csv_negative": _value("volume", lambda text: f"-{text if Decimal(text) else '1.0'}"),
    "csv_nan": _value("low", lambda _: "NaN"),
    "csv_exponent": _value("volume", lambda _: "1e5"),
}
