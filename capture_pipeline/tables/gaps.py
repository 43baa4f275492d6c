"""The `bar_gaps` table, the gap ledger: one row per missing range of a symbol and month, with its cause."""

from __future__ import annotations

from enum import StrEnum

import polars as pl


class Cause(StrEnum):
    """Reason for missing candles."""

    EXCHANGE_OUTAGE = "exchange_outage"
    """The outage calendar lists the range, or it adjoins a listed outage and is verified as non-existent."""
    OFF_GRID = "off_grid"
    """The candles of this time open between two open times of the grid; they are in `bar_exclusions`."""
    BEFORE_LISTING = "before_listing"
    """The symbol did not trade yet."""
    AFTER_DELISTING = "after_delisting"
    """The symbol no longer traded."""
    SUSPENDED = "suspended"
    """The symbol paused trading: the outage calendar lists a suspension."""
    NOT_YET_PUBLISHED = "not_yet_published"
    """Too recent: no archive file contains the range yet, and REST was not requested."""
    ARCHIVE_OMISSION = "archive_omission"
    """An archive file omits the range although the exchange has it."""
    OURS = "ours"
    """The exchange may have the range, and this pipeline has not downloaded it or has quarantined it."""
    UNKNOWN = "unknown"
    """The exchange has no candle, and no calendar explains it."""


NOT_EXPECTED = frozenset(
    {Cause.BEFORE_LISTING, Cause.AFTER_DELISTING, Cause.SUSPENDED, Cause.NOT_YET_PUBLISHED}
)
"""Causes for which no candle is expected."""
EXPLAINED = NOT_EXPECTED | {Cause.EXCHANGE_OUTAGE, Cause.OFF_GRID}
"""Causes that need no action."""

GAP_SCHEMA: dict[str, pl.DataType] = {
    "start_us": pl.Int64(),
    "end_us": pl.Int64(),
    "bars": pl.Int64(),
    "status": pl.String(),
    "cause": pl.String(),
    "explained": pl.Boolean(),
    "verified_nonexistent": pl.Boolean(),
    "attempts": pl.Int64(),
    "filled_by": pl.String(),
    "detail": pl.String(),
}

GAP_DESCRIPTIONS = {
    "start_us": "First missing open time, microseconds UTC",
    "end_us": "End of the range, exclusive, microseconds UTC",
    "bars": "Candles in the range",
    "status": "open, or filled",
    "cause": ", ".join(Cause),
    "explained": "Whether the cause needs no action",
    "verified_nonexistent": "Whether two answers, far enough apart, show that the exchange lacks the range",
    "attempts": "Answers of the exchange without a candle of this range",
    "filled_by": "Source of the bars that filled the range",
    "detail": "Explanation for people",
}

WINDOW_SCHEMA: dict[str, pl.DataType] = {
    "start_us": pl.Int64(),
    "end_us": pl.Int64(),
    "as_of_us": pl.Int64(),
    "expected": pl.Int64(),
    "bars_sha256": pl.String(),
    "gaps_sha256": pl.String(),
}
"""Expectation of a partition at the last computation of its gaps.

The range is `[start, end)`, `as_of_us` is the time of the computation, and the digests are those of the bars
and gaps published with it. The file is written last: bars and gaps with other digests do not belong to it.
"""
