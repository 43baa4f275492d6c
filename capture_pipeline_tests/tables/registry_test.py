"""Schemas of the files, repeated in this test: a file of an earlier version must stay readable."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from capture_pipeline.binance.archive.klines.columns import KLINE_SCHEMA
from capture_pipeline.lake.parquet import encoding_options, publish_table
from capture_pipeline.tables.golden.checkpoints import CHECKPOINT_HEAD, CHECKPOINT_LEVEL, CHECKPOINTS
from capture_pipeline.tables.golden.samples import LONG_SAMPLES, wide_samples
from capture_pipeline.tables.klines.bars import BARS
from capture_pipeline.tables.models import build_schema_model, has_schema
from capture_pipeline.tables.page import render_page
from capture_pipeline.tables.registry import SESSION_TABLES, TABLES
from capture_pipeline.tables.table import KLINE_KEYS, SESSION_KEYS, Table
from capture_pipeline_tests.support.pages import DOCS

_BARS = (
    "open_time_us: int64?, open: decimal128(18, 8)?, high: decimal128(18, 8)?, low: decimal128(18, 8)?, "
    "close: decimal128(18, 8)?, volume: decimal128(26, 8)?, close_time_us: int64?, quote_volume: "
    "decimal128(26, 8)?, trades: int64?, taker_buy_volume: decimal128(26, 8)?, taker_buy_quote_volume: "
    "decimal128(26, 8)?, time_unit: large_string?, source: large_string?"
)
POLARS_FILES = {
    "bars": _BARS,
    "bar_conflicts": "open_time_us: int64?, field: large_string?, kept_source: large_string?, "
    "kept_value: decimal128(26, 8)?, kept_file: large_string?, other_source: large_string?, "
    "other_value: decimal128(26, 8)?, other_file: large_string?",
    "bar_exclusions": f"{_BARS}, cause: large_string?, shift_us: int64?, file: large_string?",
    "bar_gaps": "start_us: int64?, end_us: int64?, bars: int64?, status: large_string?, cause: "
    "large_string?, explained: bool?, verified_nonexistent: bool?, attempts: int64?, filled_by: "
    "large_string?, detail: large_string?",
    "golden_refills": "trade_id: int64?, price_e8: int64?, quantity_e8: int64?, trade_us: int64?, "
    "buyer_maker: bool?, stream: large_string?",
    "bar_windows": "start_us: int64?, end_us: int64?, as_of_us: int64?, expected: int64?, "
    "bars_sha256: large_string?, gaps_sha256: large_string?",
}
_LEVEL = "side: int8, price_e8: int64, quantity_e8: int64, price_places: int8, quantity_places: int8"
_LEVEL_ENCODINGS = {
    "side": "RLE_DICTIONARY",
    "price_e8": "RLE_DICTIONARY",
    "quantity_e8": "BYTE_STREAM_SPLIT",
    "price_places": "PLAIN",
    "quantity_places": "PLAIN",
}
SESSION_FILES = {
    "golden_trades": (
        (
            "line: int64, capture_ns: int64, event_us: int64, trade_us: int64, trade_id: int64, price_e8: "
            "int64, quantity_e8: int64, price_places: int8, quantity_places: int8, buyer_maker: bool, "
            "order_type: string?"
        ),
        {
            **dict.fromkeys(
                ("line", "capture_ns", "event_us", "trade_us", "trade_id"), "DELTA_BINARY_PACKED"
            ),
            "price_e8": "RLE_DICTIONARY",
            "quantity_e8": "BYTE_STREAM_SPLIT",
            "price_places": "PLAIN",
            "quantity_places": "PLAIN",
            "buyer_maker": "PLAIN",
            "order_type": "RLE_DICTIONARY",
        },
    ),
    "golden_depth": (
        (
            f"line: int64, capture_ns: int64, event_us: int64, first_id: int64, last_id: int64, previous_id: "
            f"int64, {_LEVEL}"
        ),
        {
            **dict.fromkeys(
                ("line", "capture_ns", "event_us", "first_id", "last_id", "previous_id"), "RLE_DICTIONARY"
            ),
            **_LEVEL_ENCODINGS,
        },
    ),
    "golden_snapshots": (
        f"line: int64, capture_ns: int64, last_id: int64, {_LEVEL}",
        {**dict.fromkeys(("line", "capture_ns", "last_id"), "RLE_DICTIONARY"), **_LEVEL_ENCODINGS},
    ),
}
REPLAY_FILES = {
    "golden_checkpoints": "capture_ns: int64?, line: int64?, last_id: int64?, reached_ns: int64?, side: "
    "int8?, price_e8: int64?, quantity_e8: int64?",
    "samples_long": "sampled_ns: int64?, last_id: int64?, symbol: string?, side: string?, level: int32?, "
    "price_e8: int64?, quantity_e8: int64?",
    "samples_wide": "sampled_ns: int64?, last_id: int64?, bid_1_price_e8: int64?, bid_1_quantity_e8: int64?, "
    "ask_1_price_e8: int64?, ask_1_quantity_e8: int64?",
}


def fields(schema: pa.Schema) -> str:
    """Format a schema on one line; `?` follows the type of a field that may be null."""
    return ", ".join(f"{field.name}: {field.type}{'?' if field.nullable else ''}" for field in schema)


def table_named(name: str) -> Table:
    (found,) = (table for table in TABLES if table.name == name)
    return found


@pytest.mark.parametrize("name", POLARS_FILES)
def test_files_of_polars_keep_their_schema(name: str, tmp_path: Path) -> None:
    """Text is large_string, and each field may be null."""
    table = table_named(name)
    publish_table(pl.DataFrame(schema=table.schema), tmp_path / "table.parquet")
    schema = pq.read_schema(tmp_path / "table.parquet")
    assert fields(schema) == POLARS_FILES[name]
    assert schema.metadata is None
    assert [field.type for field in schema] == [
        pa.large_string() if column.arrow_type == pa.string() else column.arrow_type
        for column in table.columns
    ]


@pytest.mark.parametrize("name", SESSION_FILES)
def test_files_of_sessions_keep_schema_and_encodings(name: str, tmp_path: Path) -> None:
    """The writer gets the schema with its metadata, and the file returns them."""
    table = table_named(name)
    assert table in SESSION_TABLES
    expected, encodings = SESSION_FILES[name]
    assert table.encodings == encodings
    schema = table.arrow_schema.with_metadata({"scale": "8"})
    path = tmp_path / "table.parquet"
    with pq.ParquetWriter(path, schema, **encoding_options(table.encodings)) as writer:
        writer.write_table(
            pa.Table.from_pylist([{field.name: _value(field.type) for field in schema}], schema)
        )
    assert fields(pq.read_schema(path)) == expected
    assert pq.read_schema(path).metadata == {b"scale": b"8"}
    chunks = pq.read_metadata(path).row_group(0)
    for number, encoding in enumerate(encodings.values()):
        assert encoding in chunks.column(number).encodings


def _value(kind: pa.DataType) -> object:
    return {pa.bool_(): True, pa.string(): "MARKET"}.get(kind, 1)


@pytest.mark.parametrize("name", REPLAY_FILES)
def test_files_of_replays_keep_their_schema(name: str) -> None:
    assert fields(table_named(name).arrow_schema) == REPLAY_FILES[name]


def test_the_parser_fills_every_column_of_bars_but_the_source() -> None:
    assert {**KLINE_SCHEMA, "source": pl.String()} == dict(BARS.schema)


def test_a_checkpoint_consists_of_head_and_level() -> None:
    assert (*CHECKPOINT_HEAD, *CHECKPOINT_LEVEL) == tuple(CHECKPOINTS.schema)


def test_columns_of_samples_grow_with_the_depth() -> None:
    names = list(wide_samples(2).schema)
    assert names[2:6] == [
        "bid_1_price_e8",
        "bid_1_quantity_e8",
        "bid_2_price_e8",
        "bid_2_quantity_e8",
    ]
    assert len(names) == 10
    assert "symbol" in LONG_SAMPLES.schema


def test_every_table_is_declared_once_and_completely() -> None:
    """Names are unique, each column has a meaning, and keys are those of klines or of sessions."""
    assert len({table.name for table in TABLES}) == len(TABLES)
    for table in TABLES:
        assert len(table.schema) == len(table.columns), table.name
        assert table.description.endswith("."), table.name
        assert table.keys in {(), KLINE_KEYS, SESSION_KEYS}
        assert all(column.description and "|" not in column.description for column in table.columns)
    assert {table.name for table in TABLES if table.keys} == (
        {*POLARS_FILES, *SESSION_FILES} - {"golden_refills"}
    )


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_model_of_a_table_accepts_its_rows_and_refuses_others(table: Table) -> None:
    """Null passes only in nullable columns; the fast comparison has the same result."""
    model = build_schema_model(table)
    for name in (None, *table.schema):
        rows = pl.DataFrame({each: [1 if kind.is_numeric() else "1"] for each, kind in table.schema.items()})
        rows = rows.cast(
            {each: kind for each, kind in table.schema.items() if kind != pl.Boolean()}
        ).with_columns(
            pl.lit(value=True).alias(each) for each, kind in table.schema.items() if kind == pl.Boolean()
        )
        if name is not None:
            rows = rows.with_columns(pl.lit(None, table.schema[name]).alias(name))
        nullable = {column.name for column in table.columns if column.nullable}
        expected = name is None or name in nullable
        assert has_schema(table, rows) == expected
        if expected:
            model.validate(rows)
        else:
            with pytest.raises(Exception, match="null"):
                model.validate(rows)
    assert not has_schema(table, pl.DataFrame(schema=dict(reversed(table.schema.items()))))


def test_the_page_of_tables_is_the_generated_one() -> None:
    """`make docs-tables` writes it."""
    assert (DOCS / "tables.md").read_text(encoding="utf-8") == render_page(TABLES)
