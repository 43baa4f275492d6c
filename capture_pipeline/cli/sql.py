"""`capture sql`: one read-only query over the tables of the lake."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple

import click
import duckdb

from capture_pipeline.cli.console import CliError, emit_json, emit_table, one_line_errors
from capture_pipeline.cli.deployment import renew_catalog
from capture_pipeline.cli.options import JSON
from capture_pipeline.cli.selection import config_option
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.ingest.archives import result_interruptibly
from capture_pipeline.tables.catalog import check_reads_only, connect

_ROWS_AT_ONCE = 10_000
_BETWEEN_INTERRUPTS_S = 0.05


@click.command("sql", epilog="Example: capture sql 'SELECT symbol, count(*) FROM bars GROUP BY symbol'")
@click.argument("query")
@JSON
@config_option
def sql_command(deployment: Deployment, query: str, as_json: bool) -> None:
    """Run one read-only query over the views of the lake (bars, bar_gaps, …)."""
    renew_catalog(deployment)
    with one_line_errors():
        connection = connect(deployment.lake)
    with connection:
        answer = _interruptible(connection, query)
    rows = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    if as_json:
        emit_json(rows)
    else:
        emit_table(f"{len(rows)} rows", answer.columns, rows, plain=True)


class _Answer(NamedTuple):
    """Names of the columns, each once, and the rows."""

    columns: list[str]
    rows: list[tuple[object, ...]]


def _interruptible(connection: duckdb.DuckDBPyConnection, query: str) -> _Answer:
    """Run the query in a thread, because DuckDB does not notice Ctrl-C in every query of the main thread."""
    over = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="sql") as pool:
        future: Future[_Answer] = pool.submit(_answer, connection, query, over)
        try:
            return result_interruptibly(future)
        except KeyboardInterrupt:
            over.set()
            # Repeated, because DuckDB ignores an interrupt before the query has begun.
            while not wait([future], _BETWEEN_INTERRUPTS_S).done:
                connection.interrupt()
            raise


def _answer(connection: duckdb.DuckDBPyConnection, query: str, over: threading.Event) -> _Answer:
    """Run the query; no further rows are read once `over` is set."""
    try:
        check_reads_only(query)
        # Without a statement the library returns no cursor, although its type stubs exclude that.
        cursor: duckdb.DuckDBPyConnection | None = connection.execute(query)
        if cursor is None:
            raise CliError("the query is empty")
        columns = _unique([str(entry[0]) for entry in cursor.description or []])
        return _Answer(columns, _rows(cursor, over))
    except (duckdb.Error, ValueError, OverflowError) as error:
        raise CliError(" ".join(str(error).split())[:400]) from None


def _rows(cursor: duckdb.DuckDBPyConnection, over: threading.Event) -> list[tuple[object, ...]]:
    """Return all rows, read in blocks: Ctrl-C is noticed between two blocks."""
    rows: list[tuple[object, ...]] = []
    while not over.is_set() and (more := cursor.fetchmany(_ROWS_AT_ONCE)):
        rows += more
    return rows


def _unique(names: list[str]) -> list[str]:
    """Return the names; a repeated name gets a number: a, a_1."""
    unique: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        unique.append(
            name
            if name not in unique
            else next(other for other in numbered if other not in {*unique, *names})
        )
    return unique
