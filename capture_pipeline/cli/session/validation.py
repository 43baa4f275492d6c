"""`capture session validate` and `diagnose`: checks of one recording, and of a folder of recordings."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from capture_pipeline.checks.model import CheckResult, Severity, Verdict
from capture_pipeline.checks.recordings import Thresholds
from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors, output_console
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.options import CONFIG, JSON
from capture_pipeline.golden.quality_score import MAX_DAMAGED_SCORE, MEANING, PARTS, Diagnosis, diagnose
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
            "verdict": _describe_verdict(check),
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


@click.command("diagnose", epilog="Example: capture session diagnose ~/captures --json")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@JSON
@CONFIG
def diagnose_command(folder: Path, as_json: bool, config: Path | None) -> None:
    """Describe a folder of recordings: fragments, gaps between files, and a score.

    Exit code 1: the score is not above the gate.
    """
    with one_line_errors():
        diagnosis = diagnose(folder, load_settings(config).session_gates.quality_score_least)
    if as_json:
        emit_json(diagnosis.to_dict())
    else:
        _show_diagnosis(diagnosis)
    if not diagnosis.passed:
        click.get_current_context().exit(EXIT_FAILED)


def _show_diagnosis(diagnosis: Diagnosis) -> None:
    files = [
        {
            "file": file.path,
            "bytes": file.bytes,
            "messages": file.messages,
            "from": _time(file.started_ns),
            "to": _time(file.ended_ns),
            "gaps_inside": file.gaps,
            "troubles": "; ".join(file.troubles),
        }
        for file in diagnosis.files
    ]
    columns = ("file", "bytes", "messages", "from", "to", "gaps_inside", "troubles")
    emit_table(str(diagnosis.folder), columns, files[:_MOST_LISTED], names="file")
    for series in diagnosis.series:
        gaps = [
            {"from": _time(start), "to": _time(end), "seconds": f"{(end - start) / 1e9:,.1f}"}
            for start, end in series.gaps
        ]
        times = (
            f"{series.continuous_s:,.1f} s continuous of {series.span_s:,.1f} s, "
            f"{series.longest_s:,.1f} s at most"
        )
        write_line(f"{' '.join(series.symbols)}: {times}")
        if gaps:
            emit_table("Gaps", ("from", "to", "seconds"), gaps[:_MOST_LISTED])
    parts = [
        {
            "part": part,
            "share": diagnosis.parts[part],
            "points": weight * diagnosis.parts[part],
            "of": weight,
            "share_of_what": MEANING[part],
        }
        for part, weight in PARTS.items()
    ]
    emit_table("Score", ("part", "share", "points", "of", "share_of_what"), parts)
    if diagnosis.is_damaged:
        names = [file.path for file in diagnosis.files if file.is_damaged]
        output_console().print(
            f"Damaged: {', '.join(names[:_MOST_LISTED])}. With a damaged file the score is at most "
            f"{MAX_DAMAGED_SCORE:g}"
        )
    write_line(
        f"{diagnosis.score:g} of 100; {'above' if diagnosis.passed else 'not above'} the gate of "
        f"{diagnosis.gate:g}"
    )


def _time(stamp_ns: int | None) -> str:
    return (
        "" if stamp_ns is None else datetime.fromtimestamp(stamp_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    )


def _describe_verdict(check: CheckResult) -> str:
    is_advisory = check.verdict is Verdict.FAIL and check.spec.severity is Severity.WARN
    return f"{check.verdict} (advisory)" if is_advisory else str(check.verdict)
