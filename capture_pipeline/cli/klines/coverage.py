"""`capture klines coverage`: expected and present bars."""

from __future__ import annotations

from dataclasses import asdict

import click

from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors
from capture_pipeline.cli.options import JSON
from capture_pipeline.cli.selection import partition_options
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.quality.coverage_report import report_coverage
from capture_pipeline.terminal import write_line


@click.command("coverage", epilog="Example: capture klines coverage --symbol BTCUSDT --json")
@JSON
@partition_options
def coverage_command(deployment: Deployment, as_json: bool) -> None:
    """Compare expected with present bars by symbol and month: a table, a CSV file and a page with a heat map.

    With --symbol, --interval, --from or --to no file is written: the files describe the whole deployment.
    """
    asked = click.get_current_context().params
    whole = not any(asked.get(name) for name in ("symbols", "interval", "first", "last"))
    with one_line_errors():
        found = report_coverage(deployment, deployment.now_us(), publish=whole)
    rows = found.frame.to_dicts()
    if as_json:
        emit_json({"summary": asdict(found.summary), "partitions": rows})
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
    percent = found.summary.coverage_percent
    where = f"; {found.html} and {found.csv}" if whole else ""
    write_line(f"{'nothing expected' if percent is None else f'{percent} % of expected bars'}{where}")
    if found.summary.never_computed:
        write_line(
            f"{found.summary.never_computed:,} symbol-months were never backfilled and are not "
            "part of the figures"
        )
