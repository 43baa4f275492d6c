"""`capture session times`: the quality of origin times, of a session or of files of Crypto Lake."""

from __future__ import annotations

from pathlib import Path

import click

from capture_pipeline.checks.model import Verdict
from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors
from capture_pipeline.cli.deployment import open_deployment
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.options import CONFIG, JSON
from capture_pipeline.feasibility.event_time.evidence import OriginReport, build_evidence, build_report
from capture_pipeline.feasibility.event_time.measurement import measure_stream
from capture_pipeline.feasibility.event_time.page import TITLE, build_sections
from capture_pipeline.feasibility.event_time.streams import TimedStream, crypto_lake_streams, golden_streams
from capture_pipeline.feasibility.evidence import Evidence, EvidenceStore
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import publish_bytes, sha256_file
from capture_pipeline.reporting.charts import page
from capture_pipeline.terminal import write_line

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(
    "times", epilog="Example: capture session times 20260803T123000Z_high_volume_btcusdt --out times.html"
)
@click.argument("session", required=False)
@click.option("--trades", type=_FILE, help="Parquet file of trades of Crypto Lake.")
@click.option("--deltas", type=_FILE, help="Parquet file of book_delta_v2 of Crypto Lake.")
@click.option("--books", type=_FILE, help="Parquet file of book of Crypto Lake.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with plots, HTML.")
@click.option(
    "--publish", "is_published", is_flag=True, help="Publish the result as the evidence that go_no_go reads."
)
@JSON
@CONFIG
def times_command(
    session: str | None,
    trades: Path | None,
    deltas: Path | None,
    books: Path | None,
    out: Path | None,
    is_published: bool,
    as_json: bool,
    config: Path | None,
) -> None:
    """Report which timestamp orders the events of SESSION (with tables) or of files of Crypto Lake.

    Exit code 1: a criterion of origin times fails. 2: an input cannot be read.
    """
    files = [path for path in (trades, deltas, books) if path is not None]
    if (session is None) == (not files):
        raise click.UsageError("name a session, or files by --trades, --deltas, --books")
    with one_line_errors():
        lake = open_deployment(config).lake
        if session is not None:
            tables = GoldenTables(lake.tables(), session)
            inputs = {tables.manifest().recording: tables.manifest().recording_sha256}
            reports = [
                _report(f"{session} {symbol}", golden_streams(tables, symbol)) for symbol in tables.symbols()
            ]
        else:
            inputs = {path.name: sha256_file(path) for path in files}
            reports = [_report("Crypto Lake", crypto_lake_streams(trades, deltas, books))]
        found = build_evidence(reports, inputs)
        if out is not None:
            publish_bytes(out.absolute(), page(TITLE, build_sections(reports)).encode())
        if is_published:
            EvidenceStore(lake.reports()).publish(found)
    if as_json:
        emit_json(found.model_dump(mode="json"))
    else:
        _show(reports, found)
    if found.failed:
        click.get_current_context().exit(EXIT_FAILED)


def _report(subject: str, streams: list[TimedStream]) -> OriginReport:
    return build_report(subject, [measure_stream(stream) for stream in streams])


def _show(reports: list[OriginReport], found: Evidence) -> None:
    for section in build_sections(reports):
        emit_table(
            section.title,
            section.head,
            [dict(zip(section.head, row, strict=True)) for row in section.rows],
            plain=True,
        )
        for line in section.lines:
            write_line(line)
    for criterion in found.criteria:
        result = found.judge(criterion)
        helps = "" if result.verdict is Verdict.PASS else f"; {criterion.remedy}"
        write_line(f"{result.verdict}: {criterion.description}: {result.reason}{helps}")
