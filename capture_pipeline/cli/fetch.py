"""Commands that bring data in and compare it: `backfill`, `topup`, `gaps --fill`, `recheck`, `reconcile`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from typing import Any

import click

from capture_pipeline.binance.periods import Month, iso
from capture_pipeline.cli.console import emit_failures, emit_json, emit_table, one_line_errors, progress
from capture_pipeline.cli.deployment import renew_catalog
from capture_pipeline.cli.dry_run import show_estimate
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.selection import partition_options, partitions
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.deployment.venue_guard import check_venue
from capture_pipeline.errors import CaptureError, MalformedDataError
from capture_pipeline.klines.backfill import Outcome, backfill, complete
from capture_pipeline.klines.estimate import estimate
from capture_pipeline.klines.gaps import GapsResult, find_gaps
from capture_pipeline.klines.ingest.archives import fetch, with_partition_lock
from capture_pipeline.klines.ingest.republished import recheck
from capture_pipeline.klines.pending import WorkList, due_for_recheck, fillable, unfinished
from capture_pipeline.klines.reconcile import Reconciliation, reconcile
from capture_pipeline.lake.files import create_folder
from capture_pipeline.lake.paths import Partition
from capture_pipeline.terminal import write_line

_COLUMNS = (
    "symbol",
    "month",
    "bars",
    "monthly",
    "daily",
    "rest",
    "expected",
    "missing",
    "unexplained",
    "conflicts",
    "state",
)
_MOST_LISTED = 40
Failures = dict[Partition, CaptureError]


@click.command("backfill")
@click.option("--archives-only", is_flag=True, help="Use archive files alone; ask REST for no candle.")
@click.option(
    "--dry-run", is_flag=True, help="Print how many files, bytes and requests it would take; change nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Write the outcome of each partition as JSON.")
@partition_options
def backfill_command(workspace: Workspace, archives_only: bool, dry_run: bool, as_json: bool) -> None:
    """Bring history in: archives verified, holes asked of REST, bars merged, gated and their gaps explained."""
    with one_line_errors():
        now_us = workspace.rest.server_time_us() if not archives_only else workspace.now_us()
        if dry_run:
            show_estimate(
                estimate(workspace, partitions(workspace, now_us), now_us, ask_rest=not archives_only),
                as_json=as_json,
            )
            return
        run(
            workspace,
            partitions(workspace, now_us),
            now_us,
            "backfill",
            ask_rest=not archives_only,
            as_json=as_json,
        )


@click.command("topup")
@click.option("--json", "as_json", is_flag=True, help="Write the outcome of each partition as JSON.")
@partition_options
def topup_command(workspace: Workspace, as_json: bool) -> None:
    """Bring the open month up to now, and earlier ones that were left unfinished; --from and --to choose other months."""
    with one_line_errors():
        now_us = workspace.rest.server_time_us()
        chosen = click.get_current_context().params
        parts = partitions(workspace, now_us)
        if not chosen.get("first") and not chosen.get("last"):
            left = unfinished(workspace, now_us)
            parts = [part for part in parts if part.month == Month.of(now_us) or part in left]
        run(workspace, parts, now_us, "topup", ask_rest=True, as_json=as_json)


@click.command("gaps")
@click.option("--fill", is_flag=True, help="Ask REST for every hole that may be filled, first.")
@click.option("--all", "show_all", is_flag=True, help="Show explained and filled gaps too.")
@click.option("--json", "as_json", is_flag=True, help="Write the ledger as JSON.")
@partition_options
def gaps_command(workspace: Workspace, fill: bool, show_all: bool, as_json: bool) -> None:
    """Compute the gap ledger anew and show it; with --fill, fill what can be filled."""
    with one_line_errors():
        check_venue(workspace)
        now_us = workspace.rest.server_time_us() if fill else workspace.now_us()
        parts = [part for part in partitions(workspace, now_us) if _has_begun(workspace, part)]
        failures = _fill(workspace, now_us, quiet=as_json) if fill else {}
        results, not_computed = _compute(workspace, parts, now_us, quiet=as_json)
        failures |= not_computed
    rows = [row for result in results for row in _ledger(result, show_all=show_all or as_json)]
    if as_json:
        emit_json(rows)
    else:
        _show_ledger(rows, results)
    renew_catalog(workspace)
    emit_failures(list(failures.values()))
    if failures:
        click.get_current_context().exit(EXIT_FAILED)


def _compute(
    workspace: Workspace, parts: list[Partition], now_us: int, *, quiet: bool
) -> tuple[list[GapsResult], Failures]:
    """The ledgers, each computed while nobody changes its partition; the error of each that could not be."""
    results: list[GapsResult] = []
    failures: Failures = {}
    with progress("gaps", len(parts), quiet=quiet) as tell:
        for part in parts:
            try:
                results.append(
                    with_partition_lock(workspace, part, partial(find_gaps, workspace, part, now_us))
                )
            except CaptureError as error:
                failures[part] = error
            tell(str(part))
    return results, failures


def _has_begun(workspace: Workspace, part: Partition) -> bool:
    """Whether anything of it was fetched or made."""
    return workspace.lake.raw(part).is_dir() or workspace.lake.bars(part).is_file()


def _fill(workspace: Workspace, now_us: int, *, quiet: bool) -> Failures:
    """Ask for every hole that may be filled; the errors of partitions that failed."""
    wanted = fillable(workspace, now_us)
    failures: Failures = {**wanted.damaged}
    with progress("fill", len(wanted.partitions), quiet=quiet) as tell:
        for part in wanted.partitions:
            try:
                outcome = complete(workspace, fetch(workspace, part, now_us), now_us, ask_rest=True)
            except CaptureError as error:
                outcome = Outcome(part, error=error)
            unverified = summary(outcome)["unverified"]
            if outcome.error or unverified:
                failures[part] = outcome.error or MalformedDataError(
                    f"{len(unverified)} files are not used: {unverified[0]}", where=str(part)
                )
            tell(_line(outcome))
    return failures


def _show_ledger(rows: list[dict[str, Any]], results: list[GapsResult]) -> None:
    """The first rows as a table, and the totals."""
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


@click.command("reconcile")
@click.option("--json", "as_json", is_flag=True, help="Write the reports as JSON.")
@partition_options
def reconcile_command(workspace: Workspace, as_json: bool) -> None:
    """Compare the monthly file with daily files and REST answers, bar by bar, and write one report a partition."""
    with one_line_errors():
        check_venue(workspace)
        parts = [
            part for part in partitions(workspace, workspace.now_us()) if workspace.lake.bars(part).is_file()
        ]
        reports, failures = reconcile_all(workspace, parts, quiet=as_json)
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
            f"{len(reports)} partitions, {sum(report.report.differing_fields for report in reports):,} fields differ"
        )
    emit_failures(list(failures.values()))
    if failures:
        click.get_current_context().exit(EXIT_FAILED)


def reconcile_all(
    workspace: Workspace, parts: list[Partition], *, quiet: bool
) -> tuple[list[Reconciliation], Failures]:
    """Compare the sources of partitions with progress; return the reports, and the error of each partition that failed."""
    reports: list[Reconciliation] = []
    failures: Failures = {}
    with progress("reconcile", len(parts), quiet=quiet) as tell:
        for part in parts:
            try:
                reports.append(with_partition_lock(workspace, part, partial(reconcile, workspace, part)))
            except CaptureError as error:
                failures[part] = error
            tell(str(part))
    return reports, failures


def _reconciled(found: Reconciliation) -> dict[str, Any]:
    names = ("monthly_bars", "daily_bars", "rest_bars", "compared", "differing_bars", "differing_fields")
    figures = {name: getattr(found.report, name) for name in names}
    return {"symbol": found.partition.symbol, "month": str(found.partition.month), **figures}


@click.command("recheck")
@click.option(
    "--all", "every", is_flag=True, help="Read all published checksums again, not only those that are due."
)
@click.option("--json", "as_json", is_flag=True, help="Write what was found as JSON.")
@partition_options
def recheck_command(workspace: Workspace, every: bool, as_json: bool) -> None:
    """Read published checksums again and mark files that were published anew; the next backfill fetches their new version."""
    with one_line_errors():
        now_us = workspace.rest.server_time_us()
        parts = partitions(workspace, now_us)
        begun = [part for part in parts if workspace.lake.raw(part).is_dir()]
        due = WorkList(begun) if every else due_for_recheck(workspace, now_us, len(parts))
        rows = []
        with progress("recheck", len(due.partitions), quiet=as_json) as tell:
            for part in due.partitions:
                rows += [
                    {"symbol": part.symbol, "month": str(part.month), "file": one.name, "detail": one.detail}
                    for one in recheck(workspace, part, now_us)
                ]
                tell(str(part))
    if as_json:
        emit_json({"rechecked": len(due.partitions), "published_anew": rows})
    else:
        if rows:
            emit_table("Published anew", ("symbol", "month", "file", "detail"), rows)
        write_line(f"{len(due.partitions)} partitions read again, {len(rows)} files were published anew")
    emit_failures(list(due.damaged.values()))
    if due.damaged:
        click.get_current_context().exit(EXIT_FAILED)


def run(
    workspace: Workspace, parts: list[Partition], now_us: int, title: str, *, ask_rest: bool, as_json: bool
) -> None:
    """Backfill partitions with progress and show what became of them.

    Exits with 1 if one failed, if an unverified file came and is not used, or if a quarantined file leaves an unexplained hole.
    """
    started = time.monotonic()
    create_folder(workspace.lake.root)
    outcomes: list[Outcome] = []
    # Closed at once when it is interrupted: the traceback would keep its downloads going until it was shown.
    with (
        progress(title, len(parts), quiet=as_json) as tell,
        closing(backfill(workspace, parts, now_us, ask_rest=ask_rest)) as done,
    ):
        for outcome in done:
            outcomes.append(outcome)
            tell(_line(outcome))
    outcomes.sort(key=lambda outcome: (outcome.partition.symbol, outcome.partition.month))
    rows = [summary(outcome) for outcome in outcomes]
    failures = [outcome.error for outcome in outcomes if outcome.error]
    if as_json:
        emit_json({"as_of": iso(now_us), "seconds": round(time.monotonic() - started, 3), "partitions": rows})
    else:
        listed = _worth_listing(rows)
        if listed:
            emit_table(
                f"{title}: {workspace.settings.market} {workspace.settings.interval}", _COLUMNS, listed
            )
        total = sum(row["bars"] or 0 for row in rows)
        write_line(
            f"{len(rows)} partitions, {total:,} bars, {len(failures)} failed, {time.monotonic() - started:.1f} s; in {workspace.lake.root}"
        )
        for note in _notes(outcomes):
            write_line(note)
        emit_failures(failures)
        _show_unused(rows)
    renew_catalog(workspace)
    if failures or any(_lacks_a_file(row) for row in rows):
        click.get_current_context().exit(EXIT_FAILED)


def _lacks_a_file(row: dict[str, Any]) -> bool:
    """Whether a file came and is not used, and somebody has to act on it."""
    return bool(row["unverified"] or (row["quarantined"] and row["unexplained"]))


def _show_unused(rows: list[dict[str, Any]]) -> None:
    """Write each file that came and is not used to standard error, with the reason."""
    unused = [
        f"{name} {told}" for row in rows for name in ("unverified", "quarantined") for told in row[name]
    ]
    for line in unused[:_MOST_LISTED]:
        write_line(line, err=True)
    if len(unused) > _MOST_LISTED:
        write_line(
            f"and {len(unused) - _MOST_LISTED:,} more files that are not used; --json has them all", err=True
        )


def summary(outcome: Outcome) -> dict[str, Any]:
    """One outcome as a row."""
    bars, gaps, archives = outcome.bars, outcome.gaps, outcome.archives
    sources = bars.by_source if bars else {}
    quarantined = [f"{record.name}: {record.detail}" for record in archives.quarantined] if archives else []
    unverified = [f"{record.name}: {record.detail}" for record in archives.unverified] if archives else []
    unused = {"quarantined": len(quarantined), "unverified": len(unverified)}
    state = ", ".join(f"{count} {name}" for name, count in unused.items() if count) or "ok"
    return {
        "symbol": outcome.partition.symbol,
        "month": str(outcome.partition.month),
        "bars": bars.rows if bars else None,
        **{source: sources.get(source, 0) for source in ("monthly", "daily", "rest")},
        "expected": gaps.expected if gaps else None,
        "missing": gaps.missing if gaps else None,
        "unexplained": gaps.unexplained if gaps else None,
        "suspended": gaps.suspended if gaps else None,
        "conflicts": bars.conflicts if bars else None,
        "irregular": outcome.irregular,
        "excluded": bars.excluded if bars else {},
        "fetched": archives.fetched if archives else [],
        "quarantined": quarantined,
        "unverified": unverified,
        "state": f"failed: {outcome.error}" if outcome.error else state,
    }


def _notes(outcomes: list[Outcome]) -> list[str]:
    """Report rows of the exchange that are no regular candles, and bars that the calendar takes out of the expected ones."""
    excluded = sum(sum(outcome.bars.excluded.values()) for outcome in outcomes if outcome.bars)
    counts = [count for outcome in outcomes for count in outcome.irregular.values()]
    known, unknown = (sum(count[name] for count in counts) for name in ("known", "unknown"))
    suspended = sum(outcome.gaps.suspended for outcome in outcomes if outcome.gaps)
    notes = (
        [f"rows off the grid or outside their file's period, not in bars but in bar_exclusions: {excluded:,}"]
        if excluded
        else []
    )
    refused = sorted(
        {
            f"{each.partition.symbol} ({each.topups.archive_only})"
            for each in outcomes
            if each.topups and each.topups.archive_only
        }
    )
    if refused:
        notes.append(
            f"REST serves no klines of these symbols, their bars come from the archive alone: {', '.join(refused)}"
        )
    if suspended:
        notes.append(f"bars not expected, because the outage calendar lists a suspension: {suspended:,}")
    if known or unknown:
        notes.append(f"irregular rows, kept as sent: {known:,} known, {unknown:,} unknown; see capture check")
    return notes


def _worth_listing(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows of a small run; of a large one those with something to tell."""
    if len(rows) <= _MOST_LISTED:
        return rows
    return [row for row in rows if row["state"] != "ok" or row["missing"] or row["conflicts"]][:_MOST_LISTED]


def _line(outcome: Outcome) -> str:
    row = summary(outcome)
    return f"{outcome.partition} {row['state']}" + (
        f", {row['bars']:,} bars, {row['missing']:,} missing" if outcome.gaps else ""
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
