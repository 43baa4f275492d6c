"""The DuckDB catalog: a view for each table of the lake, so that any SQL client can query it by name.

Views contain no data: they read the Parquet files at the time of the query. A table without files is an empty
view with its columns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import polars as pl

from capture_pipeline.errors import BusyError, LakeError, StorageError
from capture_pipeline.lake.files import atomic_write
from capture_pipeline.lake.paths import Lake
from capture_pipeline.tables.table import BOOLEAN, INT8, INT64, TEXT, Table

MEMORY_LIMIT = "512MB"

_TYPES = {INT64: "BIGINT", INT8: "TINYINT", TEXT: "VARCHAR", BOOLEAN: "BOOLEAN"}
_GLOB = re.compile(r"([*?\[])")
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\s*(\([^)]*\))?", re.IGNORECASE)


def refresh_views(lake: Lake, tables: Sequence[Table]) -> list[str]:
    """Replace the catalog if its views are not the current ones.

    A new catalog is written and renamed, so that open connections do not block it; they keep the old one.

    Args:
        lake: Lake of the catalog.
        tables: Declared tables; those without keys have no view.

    Returns:
        The names of the views.

    Raises:
        BusyError: Another program is writing to the catalog.
        LakeError: A table cannot be read.
        StorageError: The catalog cannot be written, or a file cannot be read.
    """
    path = lake.catalog()
    views = {table.name: build_select(lake, table) for table in tables if table.keys}
    try:
        if _create_views(Path(":memory:"), views) != _read_definitions(path):
            _finish_journal(path)
            with atomic_write(path) as temporary:
                _create_views(temporary, views)
    except duckdb.IOException as error:
        raise StorageError(f"cannot be created: {_first_line(error)}", where=str(path)) from None
    except duckdb.Error as error:
        raise LakeError(
            f"cannot be created: {_first_line(error)}", where=str(path), remedy="see `capture check`"
        ) from None
    return list(views)


def _create_views(path: Path, views: Mapping[str, str]) -> dict[str, str]:
    """Create the views in a new catalog; return their definitions as DuckDB formats them."""
    with duckdb.connect(str(path)) as connection:
        for name, query in views.items():
            connection.execute(f"CREATE VIEW {name} AS {query}")
        return _definitions(connection)


def _read_definitions(path: Path) -> dict[str, str] | None:
    """Return the definitions of the existing views; None if they cannot be read."""
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
    """Apply a journal of the old catalog, which would otherwise be applied to the new one.

    Raises:
        BusyError: Another program is writing to the catalog.
    """
    if not path.with_name(f"{path.name}.wal").exists():
        return
    try:
        duckdb.connect(str(path)).close()
    except duckdb.Error as error:
        raise _busy(path, error) from None


def build_select(lake: Lake, table: Table) -> str:
    """Build the SELECT over one table: its columns, then the keys of its folders."""
    columns = ", ".join(table.schema)
    empty = ", ".join(f"CAST(NULL AS {_sql_type(kind)}) AS {column}" for column, kind in table.schema.items())
    keys = ", ".join(f"CAST(NULL AS VARCHAR) AS {key}" for key in table.keys)
    if not any(lake.table(table.name).rglob("*.parquet")):
        return f"SELECT {empty}, {keys} WHERE false"
    folder = str(lake.table(table.name))
    pattern = (_GLOB.sub(r"[\1]", folder) + lake.table_glob(table.name).removeprefix(folder)).replace(
        "'", "''"
    )
    types = ", ".join(f"'{key}': VARCHAR" for key in table.keys)
    by_name = ", union_by_name = true" if table.optional else ""
    source = f"read_parquet('{pattern}', hive_partitioning = true, hive_types = {{{types}}}{by_name})"
    if table.optional:
        # The empty SELECT provides the columns that no file may have.
        nothing = f"SELECT {empty}, {keys} WHERE false"
        source = f"({nothing} UNION ALL BY NAME SELECT * FROM {source})"  # noqa: S608 - see below
    # The names are constants of the project, and the pattern is quoted.
    return f"SELECT {columns}, {', '.join(table.keys)} FROM {source}"  # noqa: S608 - see above


def connect(lake: Lake) -> duckdb.DuckDBPyConnection:
    """Open a read-only connection to the catalog with a memory limit.

    Raises:
        BusyError: Another program has it open for writing.
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

    DuckDB's list of allowed folders applies to reading and writing, so `COPY … TO` could overwrite bars.

    Args:
        query: One or more statements.

    Raises:
        ValueError: A statement is neither SELECT, DESCRIBE, SHOW or SUMMARIZE nor EXPLAIN of one of them.
        duckdb.Error: The query is not valid SQL.
    """
    for statement in duckdb.extract_statements(query):
        kind = statement.type
        if kind is duckdb.StatementType.EXPLAIN:
            explained = duckdb.extract_statements(_EXPLAIN.sub("", statement.query, count=1))
            kind = explained[0].type if len(explained) == 1 else kind
        if kind is not duckdb.StatementType.SELECT:
            raise ValueError(
                f"{statement.type.name} is not allowed; a query may SELECT, DESCRIBE, SHOW, SUMMARIZE or "
                "EXPLAIN, and cannot write"
            )


def _restrict(connection: duckdb.DuckDBPyConnection, folders: list[Path]) -> None:
    """Restrict a connection permanently to files in these folders."""
    # DuckDB compares with the pattern that a view reads, in which glob characters are escaped.
    names = {name for folder in folders for name in (str(folder), _GLOB.sub(r"[\1]", str(folder)))}
    quoted = ", ".join("'{}/'".format(name.replace("'", "''")) for name in sorted(names))
    connection.execute(f"SET allowed_directories = [{quoted}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def configure_duckdb(connection: duckdb.DuckDBPyConnection, spill: Path) -> None:
    """Limit the memory of a connection; data that do not fit are written to `spill`."""
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
