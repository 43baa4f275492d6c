"""`capture klines backfill` and `topup`: download bars, and show the outcome of each partition."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Self

import click

from capture_pipeline.binance.periods import Month, iso
from capture_pipeline.cli.console import emit_failures, emit_json, emit_table, one_line_errors, progress
from capture_pipeline.cli.deployment import renew_catalog
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.klines.estimate import show_estimate
from capture_pipeline.cli.options import JSON
from capture_pipeline.cli.selection import partition_options, partitions
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.backfill import Outcome, backfill
from capture_pipeline.klines.estimate import estimate_backfill
from capture_pipeline.klines.pending_work import find_unfinished
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


@click.command(
    "backfill",
    epilog="Example: capture klines backfill --symbol BTCUSDT,ETHUSDT --from 2024-01 --to 2024-12",
)
@click.option("--archives-only", is_flag=True, help="Use archive files only; send no request to REST.")
@click.option(
    "--dry-run", is_flag=True, help="Print the number of files, bytes and requests; change nothing."
)
@JSON
@partition_options
def backfill_command(deployment: Deployment, archives_only: bool, dry_run: bool, as_json: bool) -> None:
    """Download the archive, fill holes from REST, merge bars and explain gaps.

    Exit code 1: a partition failed, or a file is not used although its bars are missing.
    """
    with one_line_errors():
        now_us = deployment.rest.server_time_us() if not archives_only else deployment.now_us()
        if dry_run:
            show_estimate(
                estimate_backfill(
                    deployment, partitions(deployment, now_us), now_us, use_rest=not archives_only
                ),
                as_json=as_json,
            )
            return
        run(
            deployment,
            partitions(deployment, now_us),
            now_us,
            "backfill",
            use_rest=not archives_only,
            as_json=as_json,
        )


@click.command("topup", epilog="Example: capture klines topup --symbol BTCUSDT")
@JSON
@partition_options
def topup_command(deployment: Deployment, as_json: bool) -> None:
    """Download what is new in the open month and in earlier months that are incomplete.

    --from and --to choose other months.
    """
    with one_line_errors():
        now_us = deployment.rest.server_time_us()
        chosen = click.get_current_context().params
        parts = partitions(deployment, now_us)
        if not chosen.get("first") and not chosen.get("last"):
            left = find_unfinished(deployment, now_us)
            parts = [part for part in parts if part.month == Month.of(now_us) or part in left]
        run(deployment, parts, now_us, "topup", use_rest=True, as_json=as_json)


def run(
    deployment: Deployment, parts: list[Partition], now_us: int, title: str, *, use_rest: bool, as_json: bool
) -> None:
    """Backfill partitions with progress, and show the outcome of each.

    Exit code 1: a partition failed, an unverified file is not used, or a quarantined file leaves an
    unexplained gap.
    """
    started = time.monotonic()
    create_folder(deployment.lake.root)
    outcomes: list[Outcome] = []
    # `closing` ends the downloads at once after an interrupt; a traceback would keep the generator alive.
    with (
        progress(title, len(parts), quiet=as_json) as tell,
        closing(backfill(deployment, parts, now_us, use_rest=use_rest)) as done,
    ):
        for outcome in done:
            outcomes.append(outcome)
            tell(outcome_line(outcome))
    outcomes.sort(key=lambda outcome: (outcome.partition.symbol, outcome.partition.month))
    rows = [outcome_row(outcome) for outcome in outcomes]
    failures = [outcome.error for outcome in outcomes if outcome.error]
    if as_json:
        emit_json({"as_of": iso(now_us), "seconds": round(time.monotonic() - started, 3), "partitions": rows})
    else:
        listed = [outcome_row(outcome) for outcome in _worth_listing(outcomes)]
        if listed:
            emit_table(
                f"{title}: {deployment.settings.market} {deployment.settings.interval}", _COLUMNS, listed
            )
        total = sum(row["bars"] or 0 for row in rows)
        write_line(
            f"{len(rows)} partitions, {total:,} bars, {len(failures)} failed, "
            f"{time.monotonic() - started:.1f} s; in {deployment.lake.root}"
        )
        for note in _notes(outcomes):
            write_line(note)
        emit_failures(failures)
        _show_unused(outcomes)
    renew_catalog(deployment)
    if failures or any(_lacks_a_file(outcome) for outcome in outcomes):
        click.get_current_context().exit(EXIT_FAILED)


@dataclass(frozen=True)
class UnusedFiles:
    """Names of downloaded files that are not used, with the reasons."""

    quarantined: list[str]
    unverified: list[str]

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """Return the unused files of an outcome."""
        archives = outcome.archives
        return cls(
            [f"{record.name}: {record.detail}" for record in archives.quarantined] if archives else [],
            [f"{record.name}: {record.detail}" for record in archives.unverified] if archives else [],
        )


def _lacks_a_file(outcome: Outcome) -> bool:
    """Report whether a downloaded file is not used and needs a decision."""
    unused = UnusedFiles.of(outcome)
    return bool(unused.unverified or (unused.quarantined and outcome.gaps and outcome.gaps.unexplained))


def _show_unused(outcomes: list[Outcome]) -> None:
    """Write each downloaded file that is not used to standard error, with the reason."""
    unused: list[str] = []
    for outcome in outcomes:
        files = UnusedFiles.of(outcome)
        unused += [f"unverified {each}" for each in files.unverified]
        unused += [f"quarantined {each}" for each in files.quarantined]
    for line in unused[:_MOST_LISTED]:
        write_line(line, err=True)
    if len(unused) > _MOST_LISTED:
        write_line(
            f"and {len(unused) - _MOST_LISTED:,} more files that are not used; --json has them all", err=True
        )


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as a row of a table."""
    bars, gaps, archives = outcome.bars, outcome.gaps, outcome.archives
    sources = bars.by_source if bars else {}
    unused = UnusedFiles.of(outcome)
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
        "irregular": {kind: asdict(counts) for kind, counts in outcome.irregular.items()},
        "excluded": bars.excluded if bars else {},
        "fetched": archives.fetched if archives else [],
        "quarantined": unused.quarantined,
        "unverified": unused.unverified,
        "state": _describe_state(outcome, unused),
    }


def _describe_state(outcome: Outcome, unused: UnusedFiles) -> str:
    if outcome.error:
        return f"failed: {outcome.error}"
    counts = {"quarantined": len(unused.quarantined), "unverified": len(unused.unverified)}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "ok"


def _notes(outcomes: list[Outcome]) -> list[str]:
    """Return notes on irregular rows, and on bars that the calendar excludes from the expected ones."""
    excluded = sum(sum(outcome.bars.excluded.values()) for outcome in outcomes if outcome.bars)
    counts = [count for outcome in outcomes for count in outcome.irregular.values()]
    known, unknown = sum(count.known for count in counts), sum(count.unknown for count in counts)
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
            "REST serves no klines of these symbols, their bars are from the archive only: "
            f"{', '.join(refused)}"
        )
    if suspended:
        notes.append(f"bars not expected, because the outage calendar lists a suspension: {suspended:,}")
    if known or unknown:
        notes.append(f"irregular rows, kept as sent: {known:,} known, {unknown:,} unknown; see capture check")
    return notes


def _worth_listing(outcomes: list[Outcome]) -> list[Outcome]:
    """Return all outcomes of a small run; of a large run, those that need attention."""
    if len(outcomes) <= _MOST_LISTED:
        return outcomes
    return [outcome for outcome in outcomes if _needs_attention(outcome)][:_MOST_LISTED]


def _needs_attention(outcome: Outcome) -> bool:
    """Report whether a partition failed, or has unused files, missing bars or conflicts."""
    unused = UnusedFiles.of(outcome)
    return bool(
        outcome.error
        or unused.quarantined
        or unused.unverified
        or (outcome.gaps and outcome.gaps.missing)
        or (outcome.bars and outcome.bars.conflicts)
    )


def outcome_line(outcome: Outcome) -> str:
    """Describe an outcome in one line."""
    line = f"{outcome.partition} {_describe_state(outcome, UnusedFiles.of(outcome))}"
    if outcome.bars and outcome.gaps:
        line += f", {outcome.bars.rows:,} bars, {outcome.gaps.missing:,} missing"
    return line
