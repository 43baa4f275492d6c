"""The table `golden_snapshots`: REST snapshots of the order book in a session."""

from __future__ import annotations

from capture_pipeline.tables.golden.columns import LAST_ID, LEVEL, message_columns
from capture_pipeline.tables.table import SESSION_KEYS, Encoding, Table

SNAPSHOTS = Table(
    "golden_snapshots",
    "Order-book snapshots from REST of a session, one row per price level. An order book starts from a "
    "snapshot, and is compared with later ones.",
    (*message_columns(Encoding.DICTIONARY), LAST_ID, *LEVEL),
    SESSION_KEYS,
    is_strict=True,
)
