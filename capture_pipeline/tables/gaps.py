"""The `bar_gaps` table, the gap ledger: one row a missing range of one symbol-month, with its cause and what became of it."""

from __future__ import annotations

from enum import StrEnum

import polars as pl


class Cause(StrEnum):
    """Why candles are missing."""

    EXCHANGE_OUTAGE = "exchange_outage"
    """The outage calendar lists it, or it adjoins a listed outage and is verified as non-existent."""
    OFF_GRID = "off_grid"
    """The exchange's candles of that time open between two open times of the grid; they are in `bar_exclusions`."""
    BEFORE_LISTING = "before_listing"
    """The symbol did not trade yet."""
    AFTER_DELISTING = "after_delisting"
    """The symbol no longer traded."""
    SUSPENDED = "suspended"
    """The symbol did not trade for a while within its life: the outage calendar lists a suspension of it."""
    NOT_YET_PUBLISHED = "not_yet_published"
    """Too recent: no archive file holds it yet and REST has not been asked."""
    ARCHIVE_OMISSION = "archive_omission"
    """An archive file left it out although the exchange has it."""
    OURS = "ours"
    """The exchange may have it and this pipeline has not fetched it, or has quarantined it."""
    UNKNOWN = "unknown"
    """The exchange was asked and has no candle, and nobody has said why."""


NOT_EXPECTED = frozenset(
    {Cause.BEFORE_LISTING, Cause.AFTER_DELISTING, Cause.SUSPENDED, Cause.NOT_YET_PUBLISHED}
)
"""Causes for which no candle was expected at all."""
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
    "verified_nonexistent": "Whether the exchange was seen without it twice, far enough apart",
    "attempts": "Answers of the exchange without a candle of this range",
    "filled_by": "Source of the bars that filled it",
    "detail": "In words",
}

WINDOW_SCHEMA: dict[str, pl.DataType] = {
    "start_us": pl.Int64(),
    "end_us": pl.Int64(),
    "as_of_us": pl.Int64(),
    "expected": pl.Int64(),
    "bars_sha256": pl.String(),
    "gaps_sha256": pl.String(),
}
"""What was expected of a partition when its gaps were last computed: `[start, end)`, as of when, how many candles, and the files that
were published with it. It is written last: what a reader finds else belongs together only if the digests are those."""
