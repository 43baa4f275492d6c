"""`capture session validate`: a recording, or the folder of a session, against the thresholds of a golden sample."""

from __future__ import annotations

from pathlib import Path

import click

from capture_pipeline.checks.model import Severity, Verdict
from capture_pipeline.checks.recordings import Thresholds
from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.options import CONFIG, JSON
from capture_pipeline.golden.validation.report import Report
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.terminal import write_line

_MOST_LISTED = 40
_THERE = click.Path(exists=True, path_type=Path)


@click.command("validate", epilog="Example: capture session validate recording.jsonl.gz --book")
@click.argument("path", type=_THERE)
@JSON
@click.option(
    "--book/--no-book",
    default=None,
    help="Replay the order books too. Default: only for recordings up to 64 MB.",
)
@CONFIG
def validate_command(path: Path, as_json: bool, book: bool | None, config: Path | None) -> None:
    """Check a recording, or the folder of a session, against the thresholds of a golden sample.

    Exit code 1: a check failed. 2: the recording cannot be read.
    """
    with one_line_errors():
        report = validate(path, Thresholds.from_settings(load_settings(config).session_gates), book=book)
    if as_json:
        emit_json(report.to_dict())
    else:
        _show_report(report)
    if report.verdict is Verdict.FAIL:
        click.get_current_context().exit(EXIT_FAILED)


def _show_report(report: Report) -> None:
    rows = [
        {
            "check": check.spec.name,
            "verdict": f"{check.verdict}{' (advisory)' if check.verdict is Verdict.FAIL and check.spec.severity is Severity.WARN else ''}",
            "reason": check.reason,
        }
        for check in report.checks
    ]
    emit_table(str(report.path), ("check", "verdict", "reason"), rows)
    streams = [{"stream": name, **figures} for name, figures in report.statistics["streams"].items()]
    columns = (
        "stream",
        "messages",
        "per_second",
        "first_id",
        "last_id",
        "gaps",
        "ids_lost",
        "duplicates",
        "overlaps",
    )
    emit_table("Streams", columns, streams[:_MOST_LISTED])
    if len(streams) > _MOST_LISTED:
        write_line(f"and {len(streams) - _MOST_LISTED:,} more; --json has them all")
    failed = ", ".join(check.spec.name for check in report.failed)
    write_line(f"{report.verdict}: {failed}" if failed else str(report.verdict))
