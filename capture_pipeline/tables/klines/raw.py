"""The twelve columns of a kline at the exchange, both in the CSV of a zip and in a REST answer."""

from __future__ import annotations

from capture_pipeline.tables.table import INT64, TEXT, Column, Table

_UNIT = "milliseconds or microseconds UTC"

RAW_KLINES = Table(
    "raw_klines",
    "Klines as the exchange sends them, in zips of the archive (CSV) and in REST answers (JSON); no "
    "Parquet file.",
    (
        Column("open_time", INT64, "Open time", _UNIT),
        Column("open", TEXT, "First price, as sent", "quote asset"),
        Column("high", TEXT, "Highest price, as sent", "quote asset"),
        Column("low", TEXT, "Lowest price, as sent", "quote asset"),
        Column("close", TEXT, "Last price, as sent", "quote asset"),
        Column("volume", TEXT, "Traded amount, as sent", "base asset"),
        Column("close_time", INT64, "Last instant of the kline, in the unit of `open_time`", _UNIT),
        Column("quote_volume", TEXT, "Traded amount, as sent", "quote asset"),
        Column("count", INT64, "Number of trades"),
        Column("taker_buy_volume", TEXT, "Amount that takers bought, as sent", "base asset"),
        Column("taker_buy_quote_volume", TEXT, "Amount that buying takers spent, as sent", "quote asset"),
        Column("ignore", TEXT, "Unused by the exchange; not interpreted"),
    ),
)
