"""Tables as Parquet: written tables are read, and a damaged file is one error."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from capture_pipeline.errors import LakeError
from capture_pipeline.lake import parquet
from capture_pipeline.lake.parquet import publish_table, read_table, scan_tables

ROWS = 50
FRAME = pl.DataFrame(
    {
        "time_us": range(ROWS),
        "price": [Decimal(each) / 8 for each in range(ROWS)],
        "side": ["buy", None] * 25,
        "last": [True, False] * 25,
    },
    schema={"time_us": pl.Int64, "price": pl.Decimal(18, 8), "side": pl.String, "last": pl.Boolean},
)
READERS: dict[str, Callable[[Path], pl.DataFrame]] = {
    "whole": read_table,
    "scanned": lambda path: scan_tables([path], "").collect(),
}
readers = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a table of several row groups."""
    monkeypatch.setattr(parquet, "_ROWS_IN_GROUP", 20)
    publish_table(FRAME, tmp_path / "table.parquet")
    return tmp_path / "table.parquet"


@readers
def test_a_table_comes_back_as_it_was_written(read: Callable[[Path], pl.DataFrame], table: Path) -> None:
    assert read(table).equals(FRAME)
    assert read(table).schema == FRAME.schema


def test_columns_come_in_the_order_asked_for(table: Path) -> None:
    assert read_table(table, ["side", "time_us"]).equals(FRAME.select("side", "time_us"))


QUERIES: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "columns": lambda rows: rows.select("side", "time_us"),
    "a filter over another column": lambda rows: rows.filter(pl.col("time_us") > 33).select("price"),
    "a filter that no row passes": lambda rows: rows.filter(pl.col("time_us") > 1000),
    "the first rows": lambda rows: rows.head(23),
    "the first rows of a filter": lambda rows: rows.filter(pl.col("last")).head(3),
    "the number of rows": lambda rows: rows.select(pl.len()),
    "an aggregate": lambda rows: rows.group_by("side", maintain_order=True).agg(pl.col("price").sum()),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_of_scanned_tables_is_the_one_of_their_rows(
    query: Callable[[pl.LazyFrame], pl.LazyFrame], table: Path
) -> None:
    rows = pl.concat([FRAME, FRAME]).lazy()
    assert query(scan_tables([table, table], "")).collect().equals(query(rows).collect())


def _flipped(content: bytes) -> list[bytes]:
    return [
        content[:place] + bytes([content[place] ^ flip]) + content[place + 1 :]
        for place in range(0, len(content), 5)
        for flip in (1, 0x80)
    ]


def _cut(content: bytes) -> list[bytes]:
    return [content[:size] for size in range(0, len(content), 5)]


@readers
@pytest.mark.parametrize("damage", [_flipped, _cut])
def test_a_damaged_table_gives_a_frame_or_one_error(
    read: Callable[[Path], pl.DataFrame],
    damage: Callable[[bytes], list[bytes]],
    table: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Nothing is written to standard error, where Polars panics on text that is not UTF-8."""
    for content in damage(table.read_bytes()):
        table.write_bytes(content)
        with contextlib.suppress(LakeError):
            assert read(table).height <= ROWS
    assert not capfd.readouterr().err


@readers
@pytest.mark.parametrize("text", [b"s\xffde", b"b\xffy"], ids=["a column's name", "a value"])
def test_text_that_is_not_utf_8_is_one_error(
    read: Callable[[Path], pl.DataFrame], text: bytes, table: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = io.BytesIO()
    FRAME.write_parquet(content, compression="uncompressed")
    table.write_bytes(content.getvalue().replace(text.replace(b"\xff", b"i" if b"s" in text else b"u"), text))
    with pytest.raises(LakeError, match="cannot be read"):
        read(table)
    assert not capfd.readouterr().err
