"""Parsers of the exchange's refusals: code and text of an error, and the time to wait."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

import msgspec

from capture_pipeline.parsing import PARSE_ERRORS

BACK_OFF, BANNED, FIREWALL = 429, 418, 403
DEFAULT_WAIT_S: Final = {BACK_OFF: 60.0, BANNED: 120.0, FIREWALL: 120.0}
"""Seconds to wait after a refusal without an end: the window of weights is a minute, the shortest ban two."""
MAX_WAIT_S: Final = 3 * 86_400.0
"""Longest ban. Source of both lengths: the exchange's page on REST limits, "from 2 minutes to 3 days"."""
_MIN_WAIT_S = 1.0
_MAX_TEXT = 120
_BANNED_UNTIL = re.compile(rb"banned until (\d{13})\b")


class _Error(msgspec.Struct):
    code: int
    msg: str


_decode = msgspec.json.Decoder(_Error).decode


class ErrorBody(NamedTuple):
    """Body of an error: code and short text; None and "" if the body is not the exchange's."""

    code: int | None
    text: str


def parse_error(body: bytes) -> ErrorBody:
    """Parse the body of an error."""
    try:
        found = _decode(body)
    except PARSE_ERRORS:
        return ErrorBody(None, "")
    return ErrorBody(found.code, f": {found.code} {found.msg[:_MAX_TEXT]!r}")


def parse_retry_after(value: str | None, default: float) -> float:
    """Parse `Retry-After`.

    Args:
        value: Seconds as sent; a date is not supported.
        default: Seconds if there is no usable value.

    Returns:
        Seconds, from one second to three days.
    """
    try:
        wait = default if value is None else float(value)
    except ValueError:
        return default
    return min(max(_MIN_WAIT_S, wait), MAX_WAIT_S) if math.isfinite(wait) else default


def parse_wait(status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> float:
    """Parse the time to wait after 429, 418 or 403: the longer of the times in `Retry-After` and the body.

    The body states the end of a ban by the exchange's clock, so the header `Date` of the same answer is
    subtracted.

    Args:
        status: 429, 418 or 403.
        headers: Headers, with case-insensitive names or names in lower case.
        body: First kB of the body.
        now_s: Wall clock in seconds, for an answer without `Date`.

    Returns:
        Seconds, from one second to three days.
    """
    default = DEFAULT_WAIT_S[status]
    stated = []
    if (value := headers.get("retry-after")) is not None:
        stated.append(parse_retry_after(value, default))
    if (found := _BANNED_UNTIL.search(body)) is not None:
        date_s = parse_date(headers)
        stated.append(int(found[1]) / 1000 - (now_s if date_s is None else date_s))
    wait = max(stated, default=default)
    return min(wait, MAX_WAIT_S) if wait >= _MIN_WAIT_S else default


def parse_date(headers: Mapping[str, str]) -> float | None:
    """Parse the header `Date` to seconds since 1970; None if it is missing or not a date with a time zone."""
    try:
        moment = parsedate_to_datetime(headers.get("date", ""))
    except PARSE_ERRORS:
        return None
    return None if moment.tzinfo is None else moment.timestamp()
