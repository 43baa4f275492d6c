"""The DuckDB catalogue: views over the lake's tables, so that any SQL client sees them under their names.

Views hold no data: they read the Parquet files as they are when asked. A table without a file yet is an empty view of the right
columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from capture_pipeline.errors import BusyError, LakeError, StorageError
from capture_pipeline.lake.files import atomic_write
from capture_pipeline.lake.paths import Lake

MEMORY_LIMIT = "512MB"

_TYPES = {pl.Int64(): "BIGINT", pl.Int8(): "TINYINT", pl.String(): "VARCHAR", pl.Boolean(): "BOOLEAN"}
_GLOB = re.compile(r"([*?\[])")
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\s*(\([^)]*\))?", re.IGNORECASE)
BAR_KEYS = ("market", "interval", "symbol", "month")


@dataclass(frozen=True)
class Table:
    """A table of the lake.

    Attributes:
        schema: Its columns.
        keys: The keys of its folders.
        optional: Columns that older files do not have; they are null there.
    """

    schema: Mapping[str, pl.DataType]
    keys: tuple[str, ...] = BAR_KEYS
    optional: frozenset[str] = frozenset()


def refresh_views(lake: Lake, tables: Mapping[str, Table]) -> list[str]:
    """Build the catalogue's views anew, where they are not what they should be.

    The catalogue is built aside and renamed, so that nobody who has it open is in the way; he keeps the former one until he closes it.

    Args:
        lake: Whose.
        tables: By name.

    Returns:
        The views' names.

    Raises:
        BusyError: Another program is writing to the catalogue.
        LakeError: A table cannot be read.
        StorageError: The disk refused, or a file cannot be read.
    """
    path = lake.catalog()
    views = {name: build_select(lake, name, table) for name, table in tables.items()}
    try:
        if _create_views(Path(":memory:"), views) != _read_definitions(path):
            _finish_journal(path)
            with atomic_write(path) as temporary:
                _create_views(temporary, views)
    except duckdb.IOException as error:
        raise StorageError(f"cannot be made: {_first_line(error)}", where=str(path)) from None
    except duckdb.Error as error:
        raise LakeError(
            f"cannot be made: {_first_line(error)}", where=str(path), remedy="see `capture check`"
        ) from None
    return list(views)


def _create_views(path: Path, views: Mapping[str, str]) -> dict[str, str]:
    """Make the views in a new catalogue; their definitions as DuckDB words them."""
    with duckdb.connect(str(path)) as connection:
        for name, query in views.items():
            connection.execute(f"CREATE VIEW {name} AS {query}")
        return _definitions(connection)


def _read_definitions(path: Path) -> dict[str, str] | None:
    """The definitions of the views that are there, or None where they cannot be read."""
    if not path.is_file():
        return None
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            return _definitions(connection)
    except duckdb.Error:
        return None


def _definitions(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return dict(connection.execute("SELECT view_name, sql FROM duckdb_views() WHERE NOT internal").fetchall())


def _finish_journal(path: Path) -> None:
    """See to it that no journal of the former catalogue is left, which would be taken for the new one's.

    Raises:
        BusyError: Another program is still writing it.
    """
    if not path.with_name(f"{path.name}.wal").exists():
        return
    try:
        duckdb.connect(str(path)).close()
    except duckdb.Error as error:
        raise _busy(path, error) from None


def build_select(lake: Lake, name: str, table: Table) -> str:
    """The SELECT over one table; its columns, then the keys of its folders."""
    columns = ", ".join(table.schema)
    empty = ", ".join(f"CAST(NULL AS {_sql_type(kind)}) AS {column}" for column, kind in table.schema.items())
    keys = ", ".join(f"CAST(NULL AS VARCHAR) AS {key}" for key in table.keys)
    if not any(lake.table(name).rglob("*.parquet")):
        return f"SELECT {empty}, {keys} WHERE false"
    folder = str(lake.table(name))
    pattern = (_GLOB.sub(r"[\1]", folder) + lake.table_glob(name).removeprefix(folder)).replace("'", "''")
    types = ", ".join(f"'{key}': VARCHAR" for key in table.keys)
    by_name = ", union_by_name = true" if table.optional else ""
    source = f"read_parquet('{pattern}', hive_partitioning = true, hive_types = {{{types}}}{by_name})"
    if table.optional:
        # The empty SELECT has the columns that no file may have.
        source = f"(SELECT {empty}, {keys} WHERE false UNION ALL BY NAME SELECT * FROM {source})"  # noqa: S608 - as below
    return f"SELECT {columns}, {', '.join(table.keys)} FROM {source}"  # noqa: S608 - names are the project's own, the pattern is quoted


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A read-only connection to the catalogue, in bounded memory.

    Raises:
        BusyError: Another program holds it open for writing.
    """
    try:
        connection = duckdb.connect(str(lake.catalog()), read_only=True)
    except duckdb.Error as error:
        raise _busy(lake.catalog(), error) from None
    spill = lake.root / "state" / "duckdb"
    configure_duckdb(connection, spill)
    _restrict(connection, [lake.root / "lake", spill])
    return connection


def check_reads_only(query: str) -> None:
    """Refuse statements that can write a file, attach a database or change a setting.

    DuckDB's list of allowed folders is for reading and writing alike, so that `COPY … TO` could overwrite published bars.

    Args:
        query: One or more statements.

    Raises:
        ValueError: A statement is not a SELECT (DESCRIBE, SHOW and SUMMARIZE are) and not EXPLAIN of one.
        duckdb.Error: The query is not SQL.
    """
    for statement in duckdb.extract_statements(query):
        kind = statement.type
        if kind is duckdb.StatementType.EXPLAIN:
            explained = duckdb.extract_statements(_EXPLAIN.sub("", statement.query, count=1))
            kind = explained[0].type if len(explained) == 1 else kind
        if kind is not duckdb.StatementType.SELECT:
            raise ValueError(
                f"{statement.type.name} is not allowed; a query may SELECT, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN, and cannot write"
            )


def _restrict(connection: duckdb.DuckDBPyConnection, folders: list[Path]) -> None:
    """Let a connection open files in these folders only, for good."""
    # DuckDB compares with the pattern that a view reads, in which letters of a glob are escaped.
    names = {name for folder in folders for name in (str(folder), _GLOB.sub(r"[\1]", str(folder)))}
    quoted = ", ".join("'{}/'".format(name.replace("'", "''")) for name in sorted(names))
    connection.execute(f"SET allowed_directories = [{quoted}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def configure_duckdb(connection: duckdb.DuckDBPyConnection, spill: Path) -> None:
    """Hold a connection to a fixed amount of memory; what does not fit goes to `spill`."""
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    connection.execute("SET temp_directory = '{}'".format(str(spill).replace("'", "''")))
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET TimeZone = 'UTC'")


def _busy(path: Path, error: duckdb.Error) -> BusyError:
    return BusyError(
        f"cannot be opened: {_first_line(error)}",
        where=str(path),
        remedy="close the program that has it open",
    )


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0][:160]


def _sql_type(kind: pl.DataType) -> str:
    if isinstance(kind, pl.Decimal):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    return _TYPES[kind]
