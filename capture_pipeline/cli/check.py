"""`capture check`: results of the gates as a table, JSON or a JUnit file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import click

from capture_pipeline.checks.klines import list_gates
from capture_pipeline.cli.console import (
    CliError,
    emit_json,
    emit_table,
    exact_text,
    one_line_errors,
    progress,
)
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.options import JSON
from capture_pipeline.cli.selection import partition_options, partitions
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError, ConfigError
from capture_pipeline.klines.quality.coverage_gates import check_gaps, check_lake
from capture_pipeline.klines.quality.gate_results import GateResult, find_worst_level
from capture_pipeline.klines.quality.row_gates import check_bars
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.lake.paths import Partition
from capture_pipeline.printable import printable, printable_lines
from capture_pipeline.terminal import show_traceback, write_line

_MOST_DETAILED = 3
_MOST_LISTED = 40
_MOST_TEXT = 2000
"""Characters of a text of the JUnit file."""


@click.command("check", epilog="Example: capture check --junit gates.xml --symbol BTCUSDT")
@click.option(
    "--gate",
    "names",
    multiple=True,
    help="Evaluate only this gate; may be repeated. `capture check --list` names them.",
)
@click.option("--list", "is_list", is_flag=True, help="List the gates, and evaluate none.")
@JSON
@click.option(
    "--junit", type=click.Path(dir_okay=False, path_type=Path), help="Write the results as a JUnit file too."
)
@partition_options
def check_command(
    deployment: Deployment, names: tuple[str, ...], is_list: bool, as_json: bool, junit: Path | None
) -> None:
    """Evaluate the gates of the lake.

    Exit code 1: a gate of severity ERROR failed. 2: a gate could not be evaluated.
    """
    specs = list_gates()
    if is_list:
        emit_table(
            "Gates",
            ("name", "table", "severity", "blocking", "description"),
            [{**vars(spec), "table": spec.asset} for spec in specs],
        )
        return
    with one_line_errors(), could_run(junit):
        unknown = set(names) - {spec.name for spec in specs}
        if unknown:
            raise ConfigError(
                f"there is no gate {', '.join(sorted(unknown))}", remedy="see capture check --list"
            )
        results = [
            result for result in evaluate(deployment, quiet=as_json) if not names or result.spec.name in names
        ]
        if junit:
            publish_bytes(junit.absolute(), to_junit(results))
    if as_json:
        emit_json(to_document(results))
    else:
        _show(results)
    if any(result.is_failure for result in results):
        click.get_current_context().exit(EXIT_FAILED)


def _show(results: list[GateResult]) -> None:
    """Write failed gates as a table, and the failing rows of the first few gates."""
    failed = [result for result in results if not result.passed]
    columns = ("symbol", "month", "gate", "severity", "level", "why")
    rows = [
        {
            **_place(result),
            "gate": result.spec.name,
            "severity": result.spec.severity,
            "level": result.level,
            "why": result.reason,
        }
        for result in failed
    ]
    if rows:
        emit_table("Failed gates", columns, rows[:_MOST_LISTED])
        if len(rows) > _MOST_LISTED:
            write_line(f"and {len(rows) - _MOST_LISTED:,} more; --json and --junit have them all")
    for result in failed[:_MOST_DETAILED]:
        if result.failing is not None and result.failing.height:
            shown = [
                {name: exact_text(value) for name, value in row.items()} for row in result.failing.to_dicts()
            ]
            emit_table(
                f"{result.spec.name}, {_where(result)}: {result.failing_count:,} failing",
                result.failing.columns,
                shown,
            )
    errors = sum(result.is_failure for result in results)
    failures_text = (
        f"; {errors} ERROR and {len(failed) - errors} WARN failed, level {find_worst_level(results)}"
        if failed
        else ""
    )
    write_line(f"{len(results) - len(failed)} of {len(results)} gates passed{failures_text}")


def evaluate(deployment: Deployment, *, quiet: bool = False) -> list[GateResult]:
    """Evaluate every gate over the selected partitions.

    A partition that was never backfilled has no rows to check; its gate `coverage` fails.

    Args:
        quiet: Show no progress.
    """
    now_us = deployment.now_us()
    lake, parts = deployment.lake, partitions(deployment, now_us)
    if not any(lake.raw(part).is_dir() or lake.bars(part).is_file() for part in parts):
        raise ConfigError(
            "there is nothing to check",
            where=str(lake.root),
            remedy="run capture klines backfill first, or correct storage.root",
        )
    years: dict[str, list[Partition]] = {}
    for part in parts:
        if lake.bars(part).is_file() or lake.window(part).is_file():
            years.setdefault(f"{part.symbol} {part.month.year}", []).append(part)
    results: list[GateResult] = []
    with progress("check", len(years) + 2, quiet=quiet) as tell:
        for year, months in years.items():
            results += check_bars(deployment, months, now_us)
            tell(year)
        results += check_gaps(deployment, parts, now_us)
        tell("coverage of each month")
        results += check_lake(deployment, now_us)
        tell("the whole lake")
    return results


def to_document(results: list[GateResult]) -> dict[str, Any]:
    """Return all results for JSON."""
    failed = sum(not result.passed for result in results)
    return {
        "passed": len(results) - failed,
        "failed": failed,
        "level": find_worst_level(results),
        "results": [to_dict(result) for result in results],
    }


def to_dict(result: GateResult) -> dict[str, Any]:
    """Return one result for JSON."""
    failing = result.failing.to_dicts() if result.failing is not None else []
    return {
        "gate": result.spec.name,
        "table": result.spec.asset,
        **_place(result),
        "passed": result.passed,
        "severity": result.spec.severity,
        "blocking": result.spec.blocking,
        "level": result.level if not result.passed else None,
        "summary": result.reason if not result.passed else "",
        "values": result.figures,
        "failing_count": result.failing_count,
        "failing": failing,
    }


def to_junit(results: list[GateResult]) -> bytes:
    """Write results as a JUnit file: one test case per gate and partition.

    A failed gate of severity ERROR is a failure; a failed gate of severity WARN passes with output.
    """
    suite = ET.Element(
        "testsuite",
        name="capture check",
        tests=str(len(results)),
        failures=str(sum(result.is_failure for result in results)),
        errors="0",
    )
    for result in results:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=printable(f"{result.spec.asset}.{_where(result)}"),
            name=result.spec.name,
        )
        if result.is_failure:
            message = printable(result.reason, _MOST_TEXT)
            failure = ET.SubElement(
                case, "failure", message=message, type=f"{result.spec.severity}:{result.level}"
            )
            failure.text = printable_lines(result.failing.write_csv()) if result.failing is not None else ""
        elif not result.passed:
            ET.SubElement(case, "system-out").text = printable(
                f"{result.spec.severity}: {result.reason}", _MOST_TEXT
            )
    return _written(suite)


@contextlib.contextmanager
def could_run(junit: Path | None) -> Iterator[None]:
    """Write an exception of the gates as an error to the JUnit file.

    After the traceback of a bug, exit with 2.
    """
    try:
        yield
    except Exception as error:
        if junit:
            with contextlib.suppress(CaptureError):
                publish_bytes(junit.absolute(), _junit_error(error))
        if isinstance(error, CaptureError):
            raise
        show_traceback(type(error), error, error.__traceback__)
        raise CliError(
            f"the gates were not evaluated because of a bug: {type(error).__name__}: {error}; report the bug"
        ) from None


def _junit_error(error: Exception) -> bytes:
    suite = ET.Element("testsuite", name="capture check", tests="1", failures="0", errors="1")
    case = ET.SubElement(suite, "testcase", classname="check", name="could be evaluated")
    ET.SubElement(case, "error", message=printable(error, _MOST_TEXT), type=type(error).__name__)
    return _written(suite)


def _written(suite: ET.Element) -> bytes:
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _place(result: GateResult) -> dict[str, str | None]:
    return {"symbol": result.symbol, "month": result.month}


def _where(result: GateResult) -> str:
    return f"{result.symbol}|{result.month}" if result.symbol else "lake"
