"""The table `golden_depth`: depth diffs of a session."""

from __future__ import annotations

from capture_pipeline.tables.golden.columns import LAST_ID, LEVEL, event_column, message_columns
from capture_pipeline.tables.table import INT64, SESSION_KEYS, Column, Encoding, Table

DEPTH = Table(
    "golden_depth",
    "Order-book diffs of a session, one row per changed price level, in the order of the recording.",
    (
        *message_columns(Encoding.DICTIONARY),
        event_column(Encoding.DICTIONARY),
        Column(
            "first_id",
            INT64,
            "First update id that the diff covers",
            encoding=Encoding.DICTIONARY,
        ),
        LAST_ID,
        Column(
            "previous_id",
            INT64,
            "Last update id of the diff before (futures); -1 on spot",
            encoding=Encoding.DICTIONARY,
        ),
        *LEVEL,
    ),
    SESSION_KEYS,
    "A diff that changes no level has one row with `side` −1, which keeps its update ids.",
    is_strict=True,
)
