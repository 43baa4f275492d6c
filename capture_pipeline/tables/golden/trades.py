"""The table `golden_trades`: trades of a session."""

from __future__ import annotations

from capture_pipeline.tables.golden.columns import (
    PRICE,
    PRICE_PLACES,
    QUANTITY_PLACES,
    event_column,
    message_columns,
)
from capture_pipeline.tables.table import BOOLEAN, INT64, SESSION_KEYS, TEXT, Column, Encoding, Table

TRADES = Table(
    "golden_trades",
    "Trades of a session, one row per trade: ids, exact prices and quantities with eight decimals, capture "
    "time and event time.",
    (
        *message_columns(Encoding.DELTA),
        event_column(Encoding.DELTA),
        Column("trade_us", INT64, "Trade time of the exchange", "microseconds UTC", encoding=Encoding.DELTA),
        Column("trade_id", INT64, "The exchange's id of the trade, contiguous", encoding=Encoding.DELTA),
        PRICE,
        Column("quantity_e8", INT64, "Quantity, exact", "1e-8 base asset", encoding=Encoding.SPLIT),
        PRICE_PLACES,
        QUANTITY_PLACES,
        Column(
            "buyer_maker",
            BOOLEAN,
            "Whether the buyer was the maker, so that the seller was the taker",
            encoding=Encoding.PLAIN,
        ),
        Column(
            "order_type",
            TEXT,
            "`X` of futures trades as sent: MARKET, or NA, INSURANCE_FUND, ADL, … for trades that are in "
            "no bar; null on spot, and in files that were written before the column was added",
            nullable=True,
            optional=True,
            encoding=Encoding.DICTIONARY,
        ),
    ),
    SESSION_KEYS,
    is_strict=True,
)
