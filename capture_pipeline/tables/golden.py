"""Tables of a golden sample: `golden_trades`, `golden_depth`, `golden_snapshots`, their rows and encodings.

Prices and quantities are int64 in units of 1e-8 (`_e8`), the resolution of the exchange, so every value that
it can send fits. `…_places` is the count of decimals as sent, so that the string of the exchange can be
restored exactly. `line` is the line of the recording, which gives the order of trades, diffs and snapshots.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import pyarrow as pa

SCALE = 8
BID, ASK, NO_LEVEL = 0, 1, -1
"""Values of `side`; a diff without changed levels has one row with `NO_LEVEL`, which keeps its ids."""

_DELTA, _SPLIT, _PLAIN, _DICTIONARY = "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT", "PLAIN", None
_MESSAGE = {"line": pa.int64(), "capture_ns": pa.int64()}
_LEVEL = {
    "side": pa.int8(),
    "price_e8": pa.int64(),
    "quantity_e8": pa.int64(),
    "price_places": pa.int8(),
    "quantity_places": pa.int8(),
}


@dataclass(frozen=True, eq=False)
class GoldenTable:
    """Schema and encodings of one table.

    Attributes:
        name: Folder of the table in the lake.
        columns: Names and Arrow types; only those in `nullable` can be null.
        encodings: Parquet encoding of each column; None is a dictionary. Measured: see docs/decisions/0007.
    """

    name: str
    columns: dict[str, pa.DataType]
    encodings: dict[str, str | None]
    nullable: frozenset[str] = frozenset()
    """Columns that older files lack; they are read as null."""

    @property
    def polars_schema(self) -> dict[str, pl.DataType]:
        """The columns with Polars types."""
        kinds = {
            pa.int64(): pl.Int64(),
            pa.int8(): pl.Int8(),
            pa.bool_(): pl.Boolean(),
            pa.string(): pl.String(),
        }
        return {name: kinds[kind] for name, kind in self.columns.items()}

    @property
    def schema(self) -> pa.Schema:
        """The columns as an Arrow schema."""
        return pa.schema(
            [pa.field(name, kind, nullable=name in self.nullable) for name, kind in self.columns.items()]
        )


TRADES = GoldenTable(
    "golden_trades",
    {
        **_MESSAGE,
        "event_us": pa.int64(),
        "trade_us": pa.int64(),
        "trade_id": pa.int64(),
        "price_e8": pa.int64(),
        "quantity_e8": pa.int64(),
        "price_places": pa.int8(),
        "quantity_places": pa.int8(),
        "buyer_maker": pa.bool_(),
        "order_type": pa.string(),
    },
    {
        **dict.fromkeys(("line", "capture_ns", "event_us", "trade_us", "trade_id"), _DELTA),
        "price_e8": _DICTIONARY,
        "quantity_e8": _SPLIT,
        **dict.fromkeys(("price_places", "quantity_places", "buyer_maker"), _PLAIN),
        "order_type": _DICTIONARY,
    },
    frozenset({"order_type"}),
)
_BOOK_ENCODINGS = {
    **dict.fromkeys(
        ("line", "capture_ns", "event_us", "first_id", "last_id", "previous_id", "price_e8", "side"),
        _DICTIONARY,
    ),
    "quantity_e8": _SPLIT,
    **dict.fromkeys(("price_places", "quantity_places"), _PLAIN),
}
DEPTH = GoldenTable(
    "golden_depth",
    {
        **_MESSAGE,
        "event_us": pa.int64(),
        "first_id": pa.int64(),
        "last_id": pa.int64(),
        "previous_id": pa.int64(),
        **_LEVEL,
    },
    _BOOK_ENCODINGS,
)
SNAPSHOTS = GoldenTable(
    "golden_snapshots",
    {**_MESSAGE, "last_id": pa.int64(), **_LEVEL},
    {
        name: how
        for name, how in _BOOK_ENCODINGS.items()
        if name not in {"event_us", "first_id", "previous_id"}
    },
)
TABLES = (TRADES, DEPTH, SNAPSHOTS)

COLUMN_DESCRIPTIONS = {
    "line": "Line of the recording, from 1: the order in which messages came",
    "capture_ns": "Capture time of the recorder, nanoseconds UTC",
    "event_us": "Event time of the exchange, microseconds UTC",
    "trade_us": "Trade time of the exchange, microseconds UTC",
    "trade_id": "The exchange's id of the trade, contiguous",
    "first_id": "First update id that the diff covers",
    "last_id": "Last update id that the diff, or the snapshot, covers",
    "previous_id": "Last update id of the diff before (futures); -1 on spot",
    "side": "0 bid, 1 ask, -1 a diff that changed no level",
    "price_e8": "Price, quote asset, in units of 1e-8, exact",
    "quantity_e8": "Quantity, base asset, in units of 1e-8, exact; 0 removes the level",
    "price_places": "Decimals of the price as sent",
    "quantity_places": "Decimals of the quantity as sent",
    "buyer_maker": "Whether the buyer was the maker, so that the seller was the taker",
    "order_type": (
        "`X` of futures trades as sent: MARKET, or NA, INSURANCE_FUND, ADL, … for trades that are in no bar; "
        "null on spot"
    ),
}


def decimal_text(value_e8: int, places: int) -> str:
    """Return the string that the exchange sent: `decimal_text(268380000000, 8)` is `2683.80000000`."""
    whole, fraction = divmod(value_e8, 10**SCALE)
    return f"{whole}.{fraction:08d}"[: len(str(whole)) + 1 + places] if places else str(whole)
