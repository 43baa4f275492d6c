"""`capture klines reconcile`: differences between the monthly file and other sources."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from capture_pipeline.cli.console import emit_failures, emit_json, emit_table, one_line_errors
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.options import JSON
from capture_pipeline.cli.selection import PartitionResults, partition_options, partitions, run_each
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.deployment.lake_guard import check_venue
from capture_pipeline.klines.reconciliation import Reconciliation, reconcile_partition
from capture_pipeline.lake.paths import Partition
from capture_pipeline.terminal import write_line

_MOST_LISTED = 40


@click.command("reconcile", epilog="Example: capture klines reconcile --from 2024-12 --to 2024-12")
@JSON
@partition_options
def reconcile_command(deployment: Deployment, as_json: bool) -> None:
    """Compare the monthly file with daily files and REST answers, bar by bar.

    Write one report per partition.
    """
    with one_line_errors():
        check_venue(deployment)
        parts = [
            part
            for part in partitions(deployment, deployment.now_us())
            if deployment.lake.bars(part).is_file()
        ]
        reports, failures = reconcile_all(deployment, parts, quiet=as_json)
    if as_json:
        emit_json([report.report.model_dump(mode="json") for report in reports])
    else:
        listed = [
            _reconciled(report)
            for report in reports
            if report.report.differing_fields or report.report.compared
        ]
        if listed:
            emit_table("Sources compared", tuple(listed[0]), listed[:_MOST_LISTED])
        write_line(
            f"{len(reports)} partitions, "
            f"{sum(report.report.differing_fields for report in reports):,} fields differ"
        )
    emit_failures(list(failures.values()))
    if failures:
        click.get_current_context().exit(EXIT_FAILED)


def reconcile_all(
    deployment: Deployment, parts: list[Partition], *, quiet: bool
) -> PartitionResults[Reconciliation]:
    """Compare the sources of partitions with progress."""
    return run_each("reconcile", parts, partial(reconcile_partition, deployment), quiet=quiet)


def _reconciled(found: Reconciliation) -> dict[str, Any]:
    names = ("monthly_bars", "daily_bars", "rest_bars", "compared", "differing_bars", "differing_fields")
    figures = {name: getattr(found.report, name) for name in names}
    return {"symbol": found.partition.symbol, "month": str(found.partition.month), **figures}
