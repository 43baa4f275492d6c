"""The table `bar_windows`: the expectation of a partition at the last computation of its gaps.

The file is written last: bars and gaps with other digests do not belong to it.
"""

from __future__ import annotations

from capture_pipeline.tables.table import INT64, KLINE_KEYS, TEXT, Column, Table

WINDOWS = Table(
    "bar_windows",
    "Expected bars of a partition at the last computation of its gaps: one row per partition.",
    (
        Column("start_us", INT64, "Start of the month", "microseconds UTC"),
        Column(
            "end_us",
            INT64,
            "End of the month, exclusive; an open month ends at the last finished kline",
            "microseconds UTC",
        ),
        Column("as_of_us", INT64, "Time at which the ledger was computed", "microseconds UTC"),
        Column("expected", INT64, "Number of expected bars in the window"),
        Column("bars_sha256", TEXT, "SHA-256 of the file of bars; empty if there was none"),
        Column("gaps_sha256", TEXT, "SHA-256 of the file of gaps"),
    ),
    KLINE_KEYS,
    """\
Every open time of the interval's grid in the window is expected, with four exceptions: times before the
listing, after the delisting, in a listed suspension, and not yet published. Bars in a listed outage are
expected.""",
)
