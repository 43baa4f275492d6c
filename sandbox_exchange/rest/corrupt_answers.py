"""REST answers that say something wrong: spoilt queries, spoilt rows, spoilt text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from capture_pipeline.binance.periods import parse_time
from sandbox_exchange.faults.rules import BAD_ROWS, FaultRule
from sandbox_exchange.market.source import KlineQuery
from sandbox_exchange.rest.market_data import RestApi

_US_FROM = 10**14
_BAD_ROWS: dict[str, Callable[[list[Any]], list[Any]]] = {
    "missing": lambda row: row[:-2],
    "nan": lambda row: [*row[:4], "NaN", *row[5:]],
    "number": lambda row: [*row[:4], float(row[4]), *row[5:]],
    "null": lambda row: [*row[:4], None, *row[5:]],
    "string_time": lambda row: [str(row[0]), *row[1:]],
}


def spoilt_klines(api: RestApi, query: KlineQuery, rule: FaultRule, *, micro: bool) -> list[list[Any]]:
    """The rows of a query with the defect of a rule.

    Args:
        api: Answers queries.
        query: As it was asked.
        rule: repeated_page and standing_page answer another query; the others spoil the rows of this one.
        micro: Whether times are in microseconds.
    """
    if rule.fault == "repeated_page":
        # The page from the very first candle on, whatever was asked.
        return api.rows(replace(query, start_us=0, end_us=None), micro=micro)
    if rule.fault == "standing_page" and query.start_us is not None:
        before = query.start_us - 1
        return api.rows(replace(query, start_us=None, end_us=before), micro=micro)
    rows = api.rows(query, micro=micro)
    if rule.fault == "short_page":
        return rows[: int(rule.number("rows", len(rows) // 2))]
    if rule.fault == "rest_hole":
        start, end = parse_time(rule.text("start")), parse_time(rule.text("end"))
        return [row for row in rows if not start <= _us(row[0]) < end]
    if rule.fault == "rest_bad_row" and rows:
        at = min(int(rule.number("row", len(rows) // 2)), len(rows) - 1)
        rows[at] = _BAD_ROWS[rule.text("value", BAD_ROWS[0])](rows[at])
    return rows


def spoilt_body(value: Any, rule: FaultRule | None, *, micro: bool) -> bytes:
    """The JSON text of an answer; `clock_skew` moves server times, `bad_json` ends in the middle."""
    if rule is not None and rule.fault == "clock_skew" and isinstance(value, dict) and "serverTime" in value:
        value["serverTime"] += round(rule.number("skew_s", 60) * (1e6 if micro else 1e3))
    body = msgspec.json.encode(value)
    return body[: max(1, len(body) // 2)] if rule is not None and rule.fault == "bad_json" else body


def _us(time: int) -> int:
    return time if time >= _US_FROM else time * 1000
