"""Commands that look at what is there: `coverage`, `check`, `sql`, `config`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click
import duckdb
import yaml

from capture_pipeline.cli.console import EXIT_FAILED, emit_json, emit_table, one_line_errors
from capture_pipeline.cli.selection import config_option, partition_options, partitions
from capture_pipeline.errors import ConfigError
from capture_pipeline.klines.check import check_bars, check_gaps, check_lake, gate_specs
from capture_pipeline.klines.coverage import report
from capture_pipeline.klines.tables import refresh_catalog
from capture_pipeline.klines.workspace import Workspace
from capture_pipeline.lake.catalog import connect
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.quality.gates import GateResult, worst
from capture_pipeline.settings import environment_names, json_schema

_MOST_DETAILED = 3


@click.command("coverage")
@click.option("--json", "as_json", is_flag=True, help="Write one object a symbol-month as JSON.")
@partition_options
def coverage_command(workspace: Workspace, as_json: bool) -> None:  # noqa: FBT001 - options are passed by name
    """Expected against present bars by symbol and month, as a table, a CSV and a page with a heat-map."""
    with one_line_errors():
        found = report(workspace, workspace.now_us())
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
        "filled",
        "conflicts",
    )
    emit_table("Coverage", columns, [row for row in rows if row["expected"]])
    told = found.summary["coverage_percent"]
    click.echo(f"{'nothing expected' if told is None else f'{told} % of expected bars'}; {found.html} and {found.csv}")


@click.command("check")
@click.option("--gate", "names", multiple=True, help="Evaluate only this gate; may be repeated. `capture check --list` names them.")
@click.option("--list", "list_gates", is_flag=True, help="Name the gates and end.")
@click.option("--json", "as_json", is_flag=True, help="Write every result as JSON.")
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write the results as a JUnit file too.")
@partition_options
def check_command(workspace: Workspace, names: tuple[str, ...], list_gates: bool, as_json: bool, junit: Path | None) -> None:  # noqa: FBT001 - by name
    """Hold what is in the lake to its gates. Exit code 1: an ERROR gate failed. 2: it could not run."""
    specs = gate_specs()
    if list_gates:
        emit_table("Gates", ("name", "table", "severity", "blocking", "description"), [vars(spec) for spec in specs])
        return
    with one_line_errors():
        unknown = set(names) - {spec.name for spec in specs}
        if unknown:
            raise ConfigError(f"there is no gate {', '.join(sorted(unknown))}", remedy="see capture check --list")
        results = [result for result in evaluate(workspace) if not names or result.spec.name in names]
        if junit:
            publish_bytes(junit.absolute(), to_junit(results))
    if as_json:
        emit_json(to_document(results))
    else:
        _show(results)
    if any(result.fails_check for result in results):
        click.get_current_context().exit(EXIT_FAILED)


def _show(results: list[GateResult]) -> None:
    """Failed gates as a table, and the failing rows of the first few."""
    failed = [result for result in results if not result.passed]
    columns = ("symbol", "month", "gate", "severity", "level", "why")
    rows = [
        {**_place(result), "gate": result.spec.name, "severity": result.spec.severity, "level": result.level, "why": result.summary}
        for result in failed
    ]
    if rows:
        emit_table("Failed gates", columns, rows)
    for result in failed[:_MOST_DETAILED]:
        if result.failing is not None and result.failing.height:
            shown = [{name: str(value) for name, value in row.items()} for row in result.failing.to_dicts()]
            emit_table(f"{result.spec.name}, {_where(result)}: {result.failing_count:,} failing", result.failing.columns, shown)
    click.echo(f"{len(results) - len(failed)} of {len(results)} gates passed" + (f", level {worst(results)}" if failed else ""))


def evaluate(workspace: Workspace) -> list[GateResult]:
    """Every gate over the partitions that have begun and have, or should have, bars."""
    now_us = workspace.now_us()
    parts = [part for part in partitions(workspace, now_us) if workspace.lake.raw(part).is_dir() or workspace.lake.bars(part).is_file()]
    if not parts:
        raise ConfigError(
            "there is nothing to check", where=str(workspace.lake.root), remedy="run capture backfill first, or mend storage.root"
        )
    with_bars = [part for part in parts if workspace.lake.bars(part).is_file() or workspace.lake.window(part).is_file()]
    return [*check_bars(workspace, with_bars, now_us), *check_gaps(workspace, with_bars), *check_lake(workspace, now_us)]


@click.command("sql")
@click.argument("query")
@click.option("--json", "as_json", is_flag=True, help="Write rows as JSON.")
@config_option
def sql_command(workspace: Workspace, query: str, as_json: bool) -> None:  # noqa: FBT001 - options are passed by name
    """Run one query over the lake's views (bars, bar_conflicts, bar_gaps, bar_windows), read-only."""
    with one_line_errors():
        refresh_catalog(workspace.lake)
        connection = connect(workspace.lake)
    with connection:
        try:
            cursor = connection.execute(query)
            columns = [str(entry[0]) for entry in cursor.description or []]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]
        except duckdb.Error as error:
            raise click.ClickException(" ".join(str(error).split())[:400]) from None
    if as_json:
        emit_json(rows)
    else:
        emit_table(f"{len(rows)} rows", columns, rows)


@click.group("config")
def config_group() -> None:
    """Show the settings in force, or their JSON schema."""


@config_group.command("show")
@config_option
def show_command(workspace: Workspace) -> None:
    """Every setting in force as YAML."""
    click.echo(yaml.safe_dump(workspace.settings.model_dump(mode="json"), sort_keys=False).rstrip())


@config_group.command("schema")
def schema_command() -> None:
    """The JSON schema of pipeline.yaml, for editors."""
    sys.stdout.write(json_schema())


@config_group.command("env")
def env_command() -> None:
    """The environment variables that override settings."""
    emit_table(
        "Environment", ("variable", "key"), [{"variable": name, "key": ".".join(path)} for name, path in environment_names().items()]
    )


def to_document(results: list[GateResult]) -> dict[str, Any]:
    """All results for JSON."""
    failed = sum(not result.passed for result in results)
    return {"passed": len(results) - failed, "failed": failed, "level": worst(results), "results": [to_dict(result) for result in results]}


def to_dict(result: GateResult) -> dict[str, Any]:
    """A result for JSON."""
    failing = result.failing.to_dicts() if result.failing is not None else []
    return {
        "gate": result.spec.name,
        "table": result.spec.table,
        **_place(result),
        "passed": result.passed,
        "severity": result.spec.severity,
        "blocking": result.spec.blocking,
        "level": result.level if not result.passed else None,
        "summary": result.summary if not result.passed else "",
        "values": result.values,
        "failing_count": result.failing_count,
        "failing": failing,
    }


def to_junit(results: list[GateResult]) -> bytes:
    """Results as a JUnit file: a test case a gate and partition, ERROR gates as failures, WARN gates as passed with output."""
    suite = ET.Element(
        "testsuite", name="capture check", tests=str(len(results)), failures=str(sum(result.fails_check for result in results)), errors="0"
    )
    for result in results:
        case = ET.SubElement(suite, "testcase", classname=f"{result.spec.table}.{_where(result)}", name=result.spec.name)
        if result.fails_check:
            failure = ET.SubElement(case, "failure", message=result.summary, type=f"{result.spec.severity}:{result.level}")
            failure.text = result.failing.write_csv() if result.failing is not None else ""
        elif not result.passed:
            ET.SubElement(case, "system-out").text = f"{result.spec.severity}: {result.summary}"
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _place(result: GateResult) -> dict[str, str | None]:
    return {"symbol": result.symbol, "month": result.month}


def _where(result: GateResult) -> str:
    return f"{result.symbol}|{result.month}" if result.symbol else "lake"
