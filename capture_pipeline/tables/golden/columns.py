"""Columns that several tables of sessions have, and the scale of their prices and quantities.

Prices and quantities are int64 in units of 1e-8 (`_e8`), the resolution of the exchange, so every value that
it can send fits. `…_places` is the count of decimals as sent, so that the string of the exchange can be
restored exactly. `line` is the line of the recording, which gives the order of trades, diffs and snapshots.
docs/decisions/0007 has the measurements of the encodings.
"""

from __future__ import annotations

from capture_pipeline.tables.table import INT8, INT64, Column, Encoding

SCALE = 8
BID, ASK, NO_LEVEL = 0, 1, -1
"""Values of `side`; a diff without changed levels has one row with `NO_LEVEL`, which keeps its ids."""

PRICE = Column("price_e8", INT64, "Price, exact", "1e-8 quote asset", encoding=Encoding.DICTIONARY)
PRICE_PLACES = Column("price_places", INT8, "Decimals of the price as sent", encoding=Encoding.PLAIN)
QUANTITY_PLACES = Column("quantity_places", INT8, "Decimals of the quantity as sent", encoding=Encoding.PLAIN)
LEVEL = (
    Column(
        "side",
        INT8,
        "0 bid, 1 ask; -1: the diff changed no level",
        encoding=Encoding.DICTIONARY,
    ),
    PRICE,
    Column(
        "quantity_e8",
        INT64,
        "Quantity, exact; 0 removes the level",
        "1e-8 base asset",
        encoding=Encoding.SPLIT,
    ),
    PRICE_PLACES,
    QUANTITY_PLACES,
)
"""Columns of one price level."""
LAST_ID = Column(
    "last_id",
    INT64,
    "Last update id that the diff, or the snapshot, covers",
    encoding=Encoding.DICTIONARY,
)


def message_columns(encoding: Encoding) -> tuple[Column, ...]:
    """Return the columns that identify a message of the recording."""
    return (
        Column(
            "line",
            INT64,
            "Line of the recording, from 1: the order in which messages arrived",
            encoding=encoding,
        ),
        Column("capture_ns", INT64, "Capture time of the recorder", "nanoseconds UTC", encoding=encoding),
    )


def event_column(encoding: Encoding) -> Column:
    """Return the column of the event time."""
    return Column("event_us", INT64, "Event time of the exchange", "microseconds UTC", encoding=encoding)


def decimal_text(value_e8: int, places: int) -> str:
    """Return the string that the exchange sent: `decimal_text(268380000000, 8)` is `2683.80000000`."""
    whole, fraction = divmod(value_e8, 10**SCALE)
    return f"{whole}.{fraction:08d}"[: len(str(whole)) + 1 + places] if places else str(whole)
