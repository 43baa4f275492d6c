"""`capture validate`, `diagnose` and `import`: what is done with recordings that are there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors, output_console
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.golden.imports.evidence import MARKETS
from capture_pipeline.golden.imports.report import import_summary
from capture_pipeline.golden.imports.session_builder import import_session
from capture_pipeline.golden.imports.sources import Origin
from capture_pipeline.golden.quality_score import MAX_DAMAGED_SCORE, MEANING, PARTS, Diagnosis, diagnose
from capture_pipeline.golden.validation.checks import build_thresholds
from capture_pipeline.golden.validation.report import Report, Verdict
from capture_pipeline.golden.validation.validate import validate
from capture_pipeline.sessions.models import SessionMetadata
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.terminal import write_line

_MOST_LISTED = 40
_THERE = click.Path(exists=True, path_type=Path)
_CONFIG = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The settings' file, for its thresholds; by default the nearest pipeline.yaml.",
)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("validate")
@click.argument("path", type=_THERE)
@click.option("--json", "as_json", is_flag=True, help="Write every check and figure as JSON.")
@click.option(
    "--book/--no-book",
    default=None,
    help="Replay the order books too; without either, for recordings up to 64 MB.",
)
@_CONFIG
def validate_command(path: Path, as_json: bool, book: bool | None, config: Path | None) -> None:
    """Hold a recording, or the folder of a session, to the thresholds of a golden sample. Exit code 1: it fails. 2: unreadable."""
    with one_line_errors():
        report = validate(path, build_thresholds(load_settings(config).session_gates), book=book)
    if as_json:
        emit_json(report.to_dict())
    else:
        _show_report(report)
    if report.verdict is Verdict.FAIL:
        click.get_current_context().exit(EXIT_FAILED)


@click.command("diagnose")
@click.argument("folder", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Write everything as JSON.")
@_CONFIG
def diagnose_command(folder: Path, as_json: bool, config: Path | None) -> None:
    """Tell what a folder of captures is worth: fragments, gaps between files, a score. Exit code 1: the score is not above the gate."""
    with one_line_errors():
        diagnosis = diagnose(folder, load_settings(config).session_gates.quality_score_least)
    if as_json:
        emit_json(diagnosis.to_dict())
    else:
        _show_diagnosis(diagnosis)
    if not diagnosis.passed:
        click.get_current_context().exit(EXIT_FAILED)


@click.command("import")
@click.argument("files", type=click.Path(exists=True, path_type=Path), nargs=-1, required=True)
@click.option(
    "--from",
    "origin",
    type=click.Choice([str(origin) for origin in Origin]),
    required=True,
    help="The tool that wrote them.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="The folder of all sessions.",
)
@click.option("--regime", default="imported", show_default=True, help="The folder below it.")
@click.option("--symbol", help="Whose the snapshots are that do not tell it.")
@click.option(
    "--market",
    type=click.Choice(MARKETS),
    help="Spot, USD-M or COIN-M futures, where the data do not tell it.",
)
@click.option("--venue", help="For instance binance or binance.us, where the data do not tell it.")
def import_command(
    files: tuple[Path, ...],
    origin: str,
    out: Path,
    regime: str,
    symbol: str | None,
    market: str | None,
    venue: str | None,
) -> None:
    """Make one session of the files of one recording, in any order. Nothing is overwritten.

    Standard output names the session's folder, standard error what was done: market and venue, stamps, what was skipped or left out.
    Exit code 2: a file is of another kind, or a line is wrong that no damage of the file explains.
    """
    with one_line_errors():
        folder = import_session(
            Origin(origin),
            list(files),
            out.absolute(),
            regime=regime,
            symbol=symbol,
            market=market,
            venue=venue,
        )
        summary = import_summary(SessionMetadata.model_validate_json(folder.metadata.read_bytes()))
    write_line(f"Imported as {folder.path}")
    for line in summary:
        write_line(line, err=True)


def _show_report(report: Report) -> None:
    rows = [
        {
            "check": check.name,
            "verdict": f"{check.verdict}{' (advisory)' if check.verdict is Verdict.FAIL and not check.decides else ''}",
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
    failed = ", ".join(check.name for check in report.failed)
    write_line(f"{report.verdict}: {failed}" if failed else str(report.verdict))


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
        times = f"{series.continuous_s:,.1f} s continuous of {series.span_s:,.1f} s, {series.longest_s:,.1f} s at most"
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
            f"Damaged: {', '.join(names[:_MOST_LISTED])}. With a damaged file the score is at most {MAX_DAMAGED_SCORE:g}"
        )
    write_line(
        f"{diagnosis.score:g} of 100; {'above' if diagnosis.passed else 'not above'} the gate of {diagnosis.gate:g}"
    )


def _time(parse_stamp: int | None) -> str:
    return (
        ""
        if parse_stamp is None
        else datetime.fromtimestamp(parse_stamp / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    )
