"""The table `golden_refills`: lost trades of a session that the exchange's daily files contain."""

from __future__ import annotations

from capture_pipeline.tables.table import BOOLEAN, INT64, TEXT, Column, Table

REFILLS = Table(
    "golden_refills",
    "Trades that a session lost and that the daily files of the exchange contain: one row per trade.",
    (
        Column("trade_id", INT64, "The exchange's id of the trade"),
        Column("price_e8", INT64, "Price, exact", "1e-8 quote asset"),
        Column("quantity_e8", INT64, "Quantity, exact", "1e-8 base asset"),
        Column("trade_us", INT64, "Trade time of the exchange", "microseconds UTC"),
        Column("buyer_maker", BOOLEAN, "Whether the buyer was the maker, so that the seller was the taker"),
        Column("stream", TEXT, "Stream of the recording that lost the trade"),
    ),
    notes="The proof of a session writes the file `lake/golden_refills/session=…/refills.parquet`.",
)
