"""`capture klines gaps`: the gap ledger, and requests for missing bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from capture_pipeline.binance.periods import iso
from capture_pipeline.cli.console import emit_failures, emit_json, emit_table, one_line_errors, progress
from capture_pipeline.cli.deployment import renew_catalog
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.klines.backfill import UnusedFiles, outcome_line
from capture_pipeline.cli.options import JSON
from capture_pipeline.cli.selection import Failures, partition_options, partitions, run_each
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.deployment.lake_guard import check_venue
from capture_pipeline.errors import CaptureError, MalformedDataError
from capture_pipeline.klines.backfill import Outcome, complete_partition
from capture_pipeline.klines.gaps import GapsResult, update_gaps
from capture_pipeline.klines.ingest.archives import fetch_archives
from capture_pipeline.klines.pending_work import find_fillable
from capture_pipeline.lake.paths import Partition
from capture_pipeline.terminal import write_line

_MOST_LISTED = 40


@click.command("gaps", epilog="Example: capture klines gaps --fill --symbol BTCUSDT --from 2024-12")
@click.option("--fill", is_flag=True, help="First request the missing bars from REST.")
@click.option("--all", "show_all", is_flag=True, help="Show explained and filled gaps too.")
@JSON
@partition_options
def gaps_command(deployment: Deployment, fill: bool, show_all: bool, as_json: bool) -> None:
    """Compute the gap ledger again and show it; with --fill, request missing bars from REST first."""
    with one_line_errors():
        check_venue(deployment)
        now_us = deployment.rest.server_time_us() if fill else deployment.now_us()
        parts = [part for part in partitions(deployment, now_us) if _has_begun(deployment, part)]
        failures = _fill(deployment, now_us, quiet=as_json) if fill else {}
        results, not_computed = run_each(
            "gaps", parts, lambda part: update_gaps(deployment, part, now_us), quiet=as_json
        )
        failures |= not_computed
    rows = [row for result in results for row in _ledger(result, show_all=show_all or as_json)]
    if as_json:
        emit_json(rows)
    else:
        _show_ledger(rows, results)
    renew_catalog(deployment)
    emit_failures(list(failures.values()))
    if failures:
        click.get_current_context().exit(EXIT_FAILED)


def _has_begun(deployment: Deployment, part: Partition) -> bool:
    """Report whether a raw file or bars of the partition exist."""
    return deployment.lake.raw(part).is_dir() or deployment.lake.bars(part).is_file()


def _fill(deployment: Deployment, now_us: int, *, quiet: bool) -> Failures:
    """Request every gap that may be filled; return the error of each partition that failed."""
    wanted = find_fillable(deployment, now_us)
    failures: Failures = {**wanted.damaged}
    with progress("fill", len(wanted.partitions), quiet=quiet) as tell:
        for part in wanted.partitions:
            try:
                outcome = complete_partition(
                    deployment, fetch_archives(deployment, part, now_us), now_us, use_rest=True
                )
            except CaptureError as error:
                outcome = Outcome(part, error=error)
            unverified = UnusedFiles.of(outcome).unverified
            if outcome.error or unverified:
                failures[part] = outcome.error or MalformedDataError(
                    f"{len(unverified)} files are not used: {unverified[0]}", where=str(part)
                )
            tell(outcome_line(outcome))
    return failures


def _show_ledger(rows: list[dict[str, Any]], results: list[GapsResult]) -> None:
    """Write the first rows as a table, and the totals."""
    columns = (
        "symbol",
        "month",
        "from",
        "to",
        "bars",
        "status",
        "cause",
        "verified",
        "attempts",
        "filled_by",
    )
    emit_table("Gap ledger", columns, rows[:_MOST_LISTED])
    if len(rows) > _MOST_LISTED:
        write_line(f"and {len(rows) - _MOST_LISTED:,} more; --json has them all")
    missing, unexplained = (
        sum(result.missing for result in results),
        sum(result.unexplained for result in results),
    )
    write_line(
        f"{len(results)} partitions, {missing:,} expected bars missing, {unexplained:,} of them unexplained"
    )


def _ledger(result: GapsResult, *, show_all: bool) -> Iterable[dict[str, Any]]:
    rows = result.gaps if show_all else result.open.filter(~result.open["explained"])
    for row in rows.iter_rows(named=True):
        yield {
            "symbol": result.partition.symbol,
            "month": str(result.partition.month),
            "from": iso(row["start_us"]),
            "to": iso(row["end_us"]),
            **{name: row[name] for name in ("bars", "status", "cause", "attempts", "filled_by", "detail")},
            "verified": row["verified_nonexistent"],
        }
