"""Commands that look at what is there: `coverage`, `sql`, `config`."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait

import click
import duckdb
import yaml

from capture_pipeline.cli.console import CliError, emit_json, emit_table, one_line_errors
from capture_pipeline.cli.deployment import renew_catalog
from capture_pipeline.cli.selection import config_option, partition_options
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.klines.ingest.archives import result_interruptibly
from capture_pipeline.klines.quality.measure import report_coverage
from capture_pipeline.lake.catalog import check_reads_only, connect
from capture_pipeline.settings.loader import environment_names, json_schema
from capture_pipeline.terminal import write_json, write_line, write_lines

Answer = tuple[list[str], list[tuple[object, ...]]]
_ROWS_AT_ONCE = 10_000
_BETWEEN_INTERRUPTS_S = 0.05


@click.command("coverage")
@click.option("--json", "as_json", is_flag=True, help="Write one object a symbol-month as JSON.")
@partition_options
def coverage_command(workspace: Workspace, as_json: bool) -> None:
    """Expected against present bars by symbol and month, as a table, a CSV and a page with a heat-map.

    With --symbol, --interval, --from or --to it only shows: the files on disk are the whole deployment's.
    """
    asked = click.get_current_context().params
    whole = not any(asked.get(name) for name in ("symbols", "interval", "first", "last"))
    with one_line_errors():
        found = report_coverage(workspace, workspace.now_us(), publish=whole)
    rows = found.frame.to_dicts()
    if as_json:
        emit_json({"summary": found.summary, "partitions": rows})
        return
    columns = (
        "symbol",
        "month",
        "expected",
        "present",
        "coverage_percent",
        "explained_coverage_percent",
        "missing",
        "unexplained",
        "suspended",
        "filled",
        "conflicts",
    )
    emit_table("Coverage", columns, [row for row in rows if row["expected"] or row["suspended"]])
    told = found.summary["coverage_percent"]
    where = f"; {found.html} and {found.csv}" if whole else ""
    write_line(f"{'nothing expected' if told is None else f'{told} % of expected bars'}{where}")
    if found.summary["never_computed"]:
        write_line(
            f"{found.summary['never_computed']:,} symbol-months were never backfilled and are not part of the figures"
        )


@click.command("sql")
@click.argument("query")
@click.option("--json", "as_json", is_flag=True, help="Write rows as JSON.")
@config_option
def sql_command(workspace: Workspace, query: str, as_json: bool) -> None:
    """Run one query over the lake's views (bars, bar_conflicts, bar_exclusions, bar_gaps, bar_windows), read-only."""
    renew_catalog(workspace)
    with one_line_errors():
        connection = connect(workspace.lake)
    with connection:
        columns, found = _interruptible(connection, query)
    rows = [dict(zip(columns, row, strict=True)) for row in found]
    if as_json:
        emit_json(rows)
    else:
        emit_table(f"{len(rows)} rows", columns, rows, plain=True)


def _interruptible(connection: duckdb.DuckDBPyConnection, query: str) -> Answer:
    """What the query answers; asked in a thread, since DuckDB does not look for a Ctrl-C in every query of the main one."""
    over = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="sql") as pool:
        future: Future[Answer] = pool.submit(_answer, connection, query, over)
        try:
            return result_interruptibly(future)
        except KeyboardInterrupt:
            over.set()
            # Again and again: an interrupt that comes before the query has begun is forgotten.
            while not wait([future], _BETWEEN_INTERRUPTS_S).done:
                connection.interrupt()
            raise


def _answer(connection: duckdb.DuckDBPyConnection, query: str, over: threading.Event) -> Answer:
    """The columns under names of their own, and the rows; no further ones once it is over."""
    try:
        check_reads_only(query)
        # Without a statement there is no cursor, whatever the library's types say.
        cursor: duckdb.DuckDBPyConnection | None = connection.execute(query)
        if cursor is None:
            raise CliError("the query is empty")
        return _unique([str(entry[0]) for entry in cursor.description or []]), _rows(cursor, over)
    except (duckdb.Error, ValueError, OverflowError) as error:
        raise CliError(" ".join(str(error).split())[:400]) from None


def _rows(cursor: duckdb.DuckDBPyConnection, over: threading.Event) -> list[tuple[object, ...]]:
    """All rows, some at a time: between them a Ctrl-C is noticed."""
    rows: list[tuple[object, ...]] = []
    while not over.is_set() and (more := cursor.fetchmany(_ROWS_AT_ONCE)):
        rows += more
    return rows


def _unique(names: list[str]) -> list[str]:
    """The same names; one that was there before gets a number: a, a_1."""
    unique: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        unique.append(
            name
            if name not in unique
            else next(other for other in numbered if other not in {*unique, *names})
        )
    return unique


@click.group("config")
def config_group() -> None:
    """Show the settings in force, or their JSON schema."""


@config_group.command("show")
@config_option
def show_command(workspace: Workspace) -> None:
    """Every setting in force as YAML."""
    write_lines(yaml.safe_dump(workspace.settings.model_dump(mode="json"), sort_keys=False).rstrip())


@config_group.command("schema")
def schema_command() -> None:
    """The JSON schema of pipeline.yaml, for editors."""
    write_json(json_schema().rstrip())


@config_group.command("env")
def env_command() -> None:
    """The environment variables that override settings."""
    emit_table(
        "Environment",
        ("variable", "key"),
        [{"variable": name, "key": ".".join(path)} for name, path in environment_names().items()],
    )
