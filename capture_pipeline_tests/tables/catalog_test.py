"""The views of the catalogue: atomic replacement, and roots with any name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pytest

from capture_pipeline.errors import LakeError
from capture_pipeline.lake.parquet import publish_table
from capture_pipeline.lake.paths import Lake
from capture_pipeline.tables.catalog import connect, refresh_views
from capture_pipeline.tables.registry import TABLES
from capture_pipeline.tables.table import INT64, KLINE_KEYS, TEXT, Column, Table

BARS = Table("bars", "Bars.", (Column("a", INT64, "A number"),), KLINE_KEYS)
FOLDER = Path("market=spot", "interval=1h", "symbol=BTCUSDT", "month=2025-01")


def create_lake(root: Path) -> Lake:
    """Create a lake with one table of one row."""
    lake = Lake(root)
    publish_table(pl.DataFrame({"a": [7]}, schema=BARS.schema), lake.table("bars") / FOLDER / "bars.parquet")
    return lake


def query_view(lake: Lake) -> list[tuple[object, ...]]:
    """Query the view."""
    with connect(lake) as connection:
        return connection.sql("SELECT a, symbol FROM bars").fetchall()


@pytest.mark.parametrize("name", ["plain", "a[b]", "a*", "it's", "{a,b}", "[!x]"])
def test_a_root_may_have_any_name(name: str, tmp_path: Path) -> None:
    """Glob characters in the name are literal."""
    lake = create_lake(tmp_path / name)
    assert refresh_views(lake, [BARS]) == ["bars"]
    assert query_view(lake) == [(7, "BTCUSDT")]


def test_a_catalogue_is_replaced_only_where_its_views_change(tmp_path: Path) -> None:
    """The same views leave the file unchanged; other views or an invalid file give a new one."""
    lake = Lake(tmp_path)
    refresh_views(lake, [BARS])
    assert query_view(lake) == []
    empty = lake.catalog().stat().st_ino
    refresh_views(lake, [BARS])
    assert lake.catalog().stat().st_ino == empty
    create_lake(tmp_path)
    refresh_views(lake, [BARS])
    assert query_view(lake) == [(7, "BTCUSDT")]
    lake.catalog().write_bytes(b"no database")
    refresh_views(lake, [BARS])
    assert query_view(lake) == [(7, "BTCUSDT")]
    assert [path.name for path in tmp_path.iterdir() if "catalog" in path.name] == ["catalog.duckdb"]


def test_who_has_it_open_keeps_what_he_opened(tmp_path: Path) -> None:
    """The reader does not block the replacement."""
    lake = Lake(tmp_path)
    refresh_views(lake, [BARS])
    with duckdb.connect(str(lake.catalog()), read_only=True) as reader:
        create_lake(tmp_path)
        refresh_views(lake, [BARS])
        assert reader.sql("SELECT a FROM bars").fetchall() == []
    assert query_view(lake) == [(7, "BTCUSDT")]


def test_a_table_that_cannot_be_read_is_an_error_of_the_lake(tmp_path: Path) -> None:
    """The error is one line, and no partial catalogue is left."""
    lake = create_lake(tmp_path)
    (lake.table("bars") / FOLDER / "bars.parquet").write_bytes(b"no parquet")
    with pytest.raises(LakeError, match="cannot be created") as caught:
        refresh_views(lake, [BARS])
    assert "\n" not in str(caught.value)
    assert not lake.catalog().exists()


@pytest.mark.parametrize("has_newer", [False, True])
def test_files_from_before_a_column_are_read_as_null(has_newer: bool, tmp_path: Path) -> None:
    """A newer file is next to them in one of the cases."""
    lake = create_lake(tmp_path)
    newer = replace(BARS, columns=(*BARS.columns, Column("kind", TEXT, "A text", optional=True)))
    if has_newer:
        path = lake.table("bars") / FOLDER.with_name("month=2025-02") / "bars.parquet"
        publish_table(pl.DataFrame({"a": [8], "kind": ["x"]}, schema=newer.schema), path)
    refresh_views(lake, [newer])
    with connect(lake) as connection:
        found = connection.sql("SELECT a, kind, month FROM bars ORDER BY a").fetchall()
    assert found == [(7, None, "2025-01"), (8, "x", "2025-02")][: 1 + has_newer]


def test_each_table_with_keys_has_a_view(tmp_path: Path) -> None:
    """The view has the columns of the declaration, with the types of DuckDB, and the keys."""
    lake = Lake(tmp_path)
    views = refresh_views(lake, TABLES)
    assert views == [
        "bars",
        "bar_conflicts",
        "bar_exclusions",
        "bar_gaps",
        "bar_windows",
        "golden_trades",
        "golden_depth",
        "golden_snapshots",
    ]
    with connect(lake) as connection:
        for table in TABLES:
            if table.keys:
                found = connection.sql(f"DESCRIBE {table.name}").fetchall()
                assert [row[0] for row in found] == [*table.schema, *table.keys]
        types = dict(row[:2] for row in connection.sql("DESCRIBE golden_trades").fetchall())
    assert (types["line"], types["price_places"], types["buyer_maker"], types["hour"]) == (
        "BIGINT",
        "TINYINT",
        "BOOLEAN",
        "VARCHAR",
    )
