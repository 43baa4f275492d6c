"""Defects of REST responses: wrong pages, wrong rows and wrong text."""

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


def corrupt_klines(api: RestApi, query: KlineQuery, rule: FaultRule, *, micro: bool) -> list[list[Any]]:
    """Return the rows of a query with the defect of a rule.

    Args:
        api: API that executes queries.
        query: Requested query.
        rule: Rule of the fault. repeated_page and standing_page return the rows of another query.
        micro: Whether times are in microseconds.
    """
    if rule.fault == "repeated_page":
        # The first page of the symbol, for any query.
        return api.rows(replace(query, start_us=0, end_us=None), micro=micro)
    if rule.fault == "standing_page" and query.start_us is not None:
        end_us = query.start_us - 1
        return api.rows(replace(query, start_us=None, end_us=end_us), micro=micro)
    rows = api.rows(query, micro=micro)
    if rule.fault == "short_page":
        return rows[: int(rule.number("rows", len(rows) // 2))]
    if rule.fault == "rest_hole":
        start, end = parse_time(rule.text("start")), parse_time(rule.text("end"))
        return [row for row in rows if not start <= _to_us(row[0]) < end]
    if rule.fault == "rest_bad_row" and rows:
        at = min(int(rule.number("row", len(rows) // 2)), len(rows) - 1)
        rows[at] = _BAD_ROWS[rule.text("value", BAD_ROWS[0])](rows[at])
    return rows


def encode_body(value: Any, rule: FaultRule | None, *, micro: bool) -> bytes:
    """Encode a response; `clock_skew` shifts server times and `bad_json` cuts the JSON in the middle."""
    if rule is not None and rule.fault == "clock_skew" and isinstance(value, dict) and "serverTime" in value:
        value["serverTime"] += round(rule.number("skew_s", 60) * (1e6 if micro else 1e3))
    body = msgspec.json.encode(value)
    return body[: max(1, len(body) // 2)] if rule is not None and rule.fault == "bad_json" else body


def _to_us(time: int) -> int:
    return time if time >= _US_FROM else time * 1000
