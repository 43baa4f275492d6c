"""The DuckDB catalogue: views over the lake's tables, so that any SQL client sees them under their names.

Views hold no data: they read the Parquet files as they are when asked. A table without a file yet is an empty view of the right
columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import duckdb
import polars as pl

from capture_pipeline.errors import Busy
from capture_pipeline.lake.files import make_folder
from capture_pipeline.lake.paths import Lake

MEMORY_LIMIT = "512MB"

_TYPES = {pl.Int64(): "BIGINT", pl.String(): "VARCHAR", pl.Boolean(): "BOOLEAN"}
_KEYS = ("market", "interval", "symbol", "month")


def refresh(lake: Lake, tables: Mapping[str, Mapping[str, pl.DataType]]) -> list[str]:
    """Build the catalogue's views anew.

    Args:
        lake: Whose.
        tables: Schema by table name.

    Returns:
        The views' names.

    Raises:
        Busy: Another program holds the catalogue open for writing.
    """
    path = lake.catalog()
    make_folder(path.parent)
    try:
        with duckdb.connect(str(path)) as connection:
            for name, schema in tables.items():
                connection.execute(f"CREATE OR REPLACE VIEW {name} AS {select(lake, name, schema)}")
    except duckdb.IOException as error:
        raise Busy(
            f"cannot be opened: {str(error).splitlines()[0][:160]}", where=str(path), remedy="close the program that has it open"
        ) from None
    return list(tables)


def select(lake: Lake, name: str, schema: Mapping[str, pl.DataType]) -> str:
    """The SELECT over one table; its columns, then the keys of its folders."""
    columns = ", ".join(schema)
    if not any(lake.table(name).rglob("*.parquet")):
        empty = ", ".join(f"CAST(NULL AS {_sql_type(kind)}) AS {column}" for column, kind in schema.items())
        keys = ", ".join(f"CAST(NULL AS VARCHAR) AS {key}" for key in _KEYS)
        return f"SELECT {empty}, {keys} WHERE false"
    pattern = lake.table_glob(name).replace("'", "''")
    types = ", ".join(f"'{key}': VARCHAR" for key in _KEYS)
    source = f"read_parquet('{pattern}', hive_partitioning = true, hive_types = {{{types}}})"
    return f"SELECT {columns}, {', '.join(_KEYS)} FROM {source}"  # noqa: S608 - names are the project's own, the pattern is quoted


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A read-only connection to the catalogue, in bounded memory."""
    connection = duckdb.connect(str(lake.catalog()), read_only=True)
    bound(connection, lake.root / "state" / "duckdb")
    return connection


def bound(connection: duckdb.DuckDBPyConnection, spill: Path) -> None:
    """Hold a connection to a fixed amount of memory; what does not fit goes to `spill`."""
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    connection.execute("SET temp_directory = '{}'".format(str(spill).replace("'", "''")))
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET TimeZone = 'UTC'")


def _sql_type(kind: pl.DataType) -> str:
    if isinstance(kind, pl.Decimal):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    return _TYPES[kind]
