"""`capture demo`: the main job end to end on the embedded sandbox; a second run changes nothing."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from importlib.resources import files
from pathlib import Path

import click
import polars as pl

from capture_pipeline.binance.periods import iso
from capture_pipeline.checks.model import Verdict
from capture_pipeline.cli.check import evaluate
from capture_pipeline.cli.console import emit_table, one_line_errors, progress
from capture_pipeline.cli.demo.benchmarks import measured_benchmarks
from capture_pipeline.cli.demo.session import SECONDS, Recorded, recorded_session
from capture_pipeline.cli.deployment import renew_catalog
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.klines.backfill import outcome_row
from capture_pipeline.cli.klines.reconcile import reconcile_all
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import ConfigError
from capture_pipeline.golden.proof.report import State
from capture_pipeline.klines.backfill import Outcome, backfill
from capture_pipeline.klines.quality.coverage_report import report_coverage
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.terminal import write_line, write_lines
from sandbox_exchange.config.models import load_config
from sandbox_exchange.server.server import SandboxServer

SANDBOX_FILE, SETTINGS_FILE, LIVE_FILE = "sandbox.yaml", "pipeline.yaml", "live.yaml"
_FILES = (SETTINGS_FILE, "outages.yaml", "irregularities.yaml", SANDBOX_FILE, LIVE_FILE)
_QUESTION = "SELECT market, interval, symbol, month, count(*) AS bars FROM bars GROUP BY ALL ORDER BY ALL"
_COLUMNS = (
    "symbol",
    "month",
    "expected",
    "bars",
    "monthly",
    "daily",
    "rest",
    "missing",
    "unexplained",
    "conflicts",
)


@click.command("demo", epilog="Example: capture demo --out /tmp/demo")
@click.option(
    "--out",
    "folder",
    default="demo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for all files of the demo.",
)
@click.option(
    "--port",
    default=8650,
    show_default=True,
    help="Port of the sandbox exchange. If it is in use, another one is used.",
)
def demo_command(folder: Path, port: int) -> None:
    """Backfill, explain gaps, evaluate gates, record and prove a session on the sandbox exchange."""
    started = time.monotonic()
    with one_line_errors():
        deployment_file = prepare(folder)
        with SandboxServer(load_config(folder / SANDBOX_FILE), free_port(port)) as server:
            write_line(f"Sandbox exchange at {server.url}; its clock is at 2025-02-20T10:30Z")
            deployment = Deployment(load_settings(deployment_file, {"CAPTURE_SANDBOX_URL": server.url}))
            now_us = deployment.rest.server_time_us()
            outcomes = _backfill(deployment, now_us)
            write_line("Evaluating the gates of the bars")
            results = evaluate(deployment)
            coverage = report_coverage(deployment, now_us)
        write_line("Comparing the monthly files with the daily files and REST answers")
        not_compared = reconcile_all(
            deployment, [outcome.partition for outcome in outcomes if outcome.bars], quiet=False
        ).failures
        write_line(f"Recording a live session of {SECONDS} s; one of its two connections is cut meanwhile")
        session = recorded_session(deployment_file, folder.absolute() / LIVE_FILE)
        renew_catalog(deployment)
        write_line("Running the benchmarks of decimals, disk and replay at a reduced size")
        benchmarks = measured_benchmarks(deployment.lake)
    failed = [result for result in results if result.is_failure]
    emit_table("Bars by symbol and month", _COLUMNS, [outcome_row(outcome) for outcome in outcomes])
    emit_table(
        "Gaps and their causes",
        ("symbol", "from", "to", "bars", "status", "cause", "filled_by"),
        _holes(outcomes),
    )
    fetched = sum(len(outcome.archives.fetched) for outcome in outcomes if outcome.archives)
    pages = sum(outcome.topups.pages for outcome in outcomes if outcome.topups)
    again = "a second run needs none" if fetched or pages else "all bars are those of an earlier run"
    write_line(f"Downloads:  {fetched} archive files, all verified; {pages} pages from REST")
    write_line(f"            ({again})")
    write_line(f"Gates:      {sum(result.passed for result in results)} of {len(results)} gates passed")
    found = coverage.summary
    write_line(f"Coverage:   {found.coverage_percent} % of {found.expected:,} expected bars are present,")
    write_line(
        f"            {found.explained_coverage_percent} % if missing bars with a cause are not counted"
    )
    write_line(f"Duration:   {time.monotonic() - started:.0f} s")
    _report_session(session)
    judged = [
        (criterion, evidence.judge(criterion)) for evidence in benchmarks for criterion in evidence.criteria
    ]
    rows = [
        {
            "benchmark": criterion.asset,
            "criterion": criterion.description,
            "measured": result.measured,
            "unit": criterion.threshold.unit,
            "verdict": str(result.verdict),
        }
        for criterion, result in judged
    ]
    emit_table("Benchmarks at a reduced size", tuple(rows[0]), rows)
    write_lines("\nResults:")
    results_by_name = {
        "bars": deployment.lake.table("bars"),
        "coverage page": coverage.html,
        "session": session.folder.path,
        "session proof": deployment.lake.proof(session.folder.session),
        "all tables": deployment.lake.table("golden_trades").parent,
        "SQL catalog": deployment.lake.catalog(),
    }
    for what, path in results_by_name.items():
        write_line(f"  {what:14} {path}")
    write_lines("\nShow them in Dagster:  make ui DEMO=1")
    write_line(f"Query them with SQL:   .venv/bin/capture sql --config {deployment_file} '{_QUESTION}'")
    lines = [str(outcome.error) for outcome in outcomes if outcome.error] + [
        result.reason for result in failed
    ]
    lines += [f"{check.spec.name}: {check.reason}" for check in session.report.failed]
    lines += [str(error) for error in not_compared.values()]
    lines += [
        f"{criterion.description}: {result.verdict}"
        for criterion, result in judged
        if result.verdict is Verdict.FAIL and not criterion.remedy
    ]
    if session.proof.state is not State.HOLDS:
        lines.append(f"the comparison of the session with the published trades: {session.proof.state}")
    if lines:
        for line in lines:
            write_line(f"failed: {line}", err=True)
        click.get_current_context().exit(EXIT_FAILED)


def _report_session(session: Recorded) -> None:
    figures = session.metadata.statistics
    row = {
        "session": session.folder.session,
        "messages": figures["messages"],
        "reconnects": figures["reconnects"],
        "gaps": figures["gaps"],
        "ids_lost": figures["ids_lost"],
        "audits": len(session.metadata.audits),
        "trades": session.tables.rows["golden_trades"],
        "depth_rows": session.tables.rows["golden_depth"],
        "verdict": str(session.report.verdict),
        "published": session.proof.figures.trades_published,
        "proof": str(session.proof.state),
    }
    title = "Live session" if session.is_new else "Live session of an earlier run"
    emit_table(title, tuple(row), [row], names="session")


def prepare(folder: Path) -> Path:
    """Write the demo's files to its folder; return the path of the settings.

    Raises:
        ConfigError: A file of this name exists with other content; nothing was written.
    """
    shipped = files("capture_pipeline.cli.demo.files")
    contents = {folder.absolute() / name: shipped.joinpath(name).read_bytes() for name in _FILES}
    missing = [path for path, content in contents.items() if not _is_there(path, content)]
    for path in missing:
        publish_bytes(path, contents[path])
    return folder / SETTINGS_FILE


def _is_there(path: Path, content: bytes) -> bool:
    """Report whether the file has exactly this content."""
    try:
        if path.read_bytes() == content:
            return True
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="use another --out"
        ) from None
    remedy = "use another --out, or remove the file if an earlier demo wrote it"
    raise ConfigError("exists with content of another origin", where=str(path), remedy=remedy)


def free_port(port: int) -> int:
    """Return `port`, or 0 (any port) if it is in use."""
    with socket.socket() as probe:
        return 0 if probe.connect_ex(("127.0.0.1", port)) == 0 else port


def _backfill(deployment: Deployment, now_us: int) -> list[Outcome]:
    parts = deployment.partitions(deployment.settings.symbols, deployment.months(now_us))
    outcomes = []
    with progress("backfill", len(parts)) as tell, closing(backfill(deployment, parts, now_us)) as done:
        for outcome in done:
            outcomes.append(outcome)
            tell(f"{outcome.partition}: {outcome.bars.rows if outcome.bars else 0:,} bars")
    return sorted(outcomes, key=lambda outcome: (outcome.partition.symbol, outcome.partition.month))


def _holes(outcomes: list[Outcome]) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for outcome in outcomes:
        gaps = outcome.gaps.gaps if outcome.gaps else pl.DataFrame()
        for row in gaps.iter_rows(named=True):
            place = {
                "symbol": outcome.partition.symbol,
                "from": iso(row["start_us"]),
                "to": iso(row["end_us"]),
            }
            found.append({**place, **{name: row[name] for name in ("bars", "status", "cause", "filled_by")}})
    return found
