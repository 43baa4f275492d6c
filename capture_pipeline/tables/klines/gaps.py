"""The table `bar_gaps`, the gap ledger: one row per missing range of a symbol and month, with its cause."""

from __future__ import annotations

from enum import StrEnum

from capture_pipeline.tables.table import BOOLEAN, INT64, KLINE_KEYS, TEXT, Column, Table


class Cause(StrEnum):
    """Reason for missing klines."""

    EXCHANGE_OUTAGE = "exchange_outage"
    """The outage calendar lists the range, or it adjoins a listed outage and is verified as non-existent."""
    OFF_GRID = "off_grid"
    """The klines of this time open between two open times of the grid; they are in `bar_exclusions`."""
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
    """The exchange has no kline, and no calendar explains it."""


class GapStatus(StrEnum):
    """Status of a row of the ledger."""

    OPEN = "open"
    """The bars are still missing."""
    FILLED = "filled"
    """The bars were missing from an archive file or in an earlier ledger, and are present now."""


NOT_EXPECTED = frozenset(
    {Cause.BEFORE_LISTING, Cause.AFTER_DELISTING, Cause.SUSPENDED, Cause.NOT_YET_PUBLISHED}
)
"""Causes for which no kline is expected."""
EXPLAINED = NOT_EXPECTED | {Cause.EXCHANGE_OUTAGE, Cause.OFF_GRID}
"""Causes that need no action."""

GAPS = Table(
    "bar_gaps",
    "Ledger of missing bars of a symbol and month: one row for each range of consecutive missing bars, with "
    "cause and status.",
    (
        Column("start_us", INT64, "First missing open time", "microseconds UTC"),
        Column("end_us", INT64, "End of the range, exclusive", "microseconds UTC"),
        Column("bars", INT64, "Number of klines in the range"),
        Column(
            "status",
            TEXT,
            "`open`: still missing. `filled`: missing from an archive file or in an earlier ledger, and "
            "present now",
        ),
        Column(
            "cause",
            TEXT,
            f"{', '.join(f'`{cause}`' for cause in Cause)}; a filled row keeps its earlier cause",
        ),
        Column("explained", BOOLEAN, "Whether the cause needs no action"),
        Column(
            "verified_nonexistent",
            BOOLEAN,
            "Whether `gaps.sightings` REST answers did not contain it, each at least `gaps.sighting_minutes` "
            "after the previous counted one",
        ),
        Column("attempts", INT64, "Number of REST answers without any kline of this range"),
        Column(
            "filled_by",
            TEXT,
            "Source of the bars that filled the range; null while it is open",
            nullable=True,
        ),
        Column("detail", TEXT, "Explanation for people"),
    ),
    KLINE_KEYS,
    """\
The open ranges together are exactly the bars that are missing up to the time of the ledger. A range is split
where its cause changes. [data.md](data.md#gap-causes) defines the causes.""",
)
