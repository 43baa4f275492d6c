"""Parsers of what a refusal of the exchange contains: the error body and the `Retry-After` header."""

from __future__ import annotations

import math

import msgspec

from capture_pipeline.parsing import PARSE_ERRORS

_MAX_WAIT_S = 7 * 86_400.0
"""Bans last three days at most."""
_LONGEST_TEXT = 120


class _Error(msgspec.Struct):
    code: int
    msg: str


_decode = msgspec.json.Decoder(_Error).decode


def parse_error(body: bytes) -> tuple[int | None, str]:
    """Parse the body of an error: its code and a brief text; None and nothing where it is not the exchange's."""
    try:
        found = _decode(body)
    except PARSE_ERRORS:
        return None, ""
    return found.code, f": {found.code} {found.msg[:_LONGEST_TEXT]!r}"


def parse_retry_after(value: str | None, default: float) -> float:
    """Parse `Retry-After`.

    Args:
        value: Seconds as sent; a date is not understood.
        default: Seconds where there is none.

    Returns:
        Seconds, from 0 to a week.
    """
    try:
        wait = default if value is None else float(value)
    except ValueError:
        return default
    return min(max(0.0, wait), _MAX_WAIT_S) if math.isfinite(wait) else default
