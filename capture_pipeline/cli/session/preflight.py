"""`capture session preflight`: checks before a recording."""

from __future__ import annotations

from pathlib import Path

import click

from capture_pipeline.checks.model import CheckResult
from capture_pipeline.cli.console import emit_json, one_line_errors
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.options import CONFIG, JSON, SESSIONS, SYMBOLS
from capture_pipeline.cli.selection import symbol_names
from capture_pipeline.recorder.preflight.preflight import preflight
from capture_pipeline.recorder.preflight.record import Note
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.terminal import write_line


@click.command("preflight", epilog="Example: capture session preflight --symbol BTCUSDT --seconds 30")
@SYMBOLS
@click.option(
    "--seconds",
    type=click.FloatRange(1, 3600),
    default=60,
    show_default=True,
    help="Duration of the test recording, seconds.",
)
@SESSIONS
@JSON
@CONFIG
def preflight_command(
    symbols: tuple[str, ...], seconds: float, output: Path | None, as_json: bool, config: Path | None
) -> None:
    """Check disk, clock, network and streams before a recording.

    Lines with SEEN report observations of the exchange that its documentation does not contain. The last line
    names a JSON file with all observations.

    Exit code 1: a check failed.
    """
    with one_line_errors():
        settings = load_settings(config)
        lines = []
        for line in preflight(settings, symbol_names(symbols), seconds=seconds, output=output):
            lines.append(line)
            if not as_json:
                _show(line)
    if as_json:
        emit_json([_to_dict(line) for line in lines])
    if any(isinstance(line, CheckResult) and line.is_failure for line in lines):
        click.get_current_context().exit(EXIT_FAILED)


def _show(line: CheckResult | Note) -> None:
    if isinstance(line, Note):
        write_line(f"SEEN  {line.name:14} {line.text}")
        return
    remedy = line.remedy or line.spec.remedy
    action = f"   → {remedy}" if not line.passed and remedy else ""
    write_line(f"{line.verdict}  {line.spec.name:14} {line.reason}{action}")


def _to_dict(line: CheckResult | Note) -> dict[str, object]:
    """Return a check or a note for JSON."""
    if isinstance(line, Note):
        return {"name": line.name, "passed": True, "measured": line.text, "remedy": "", "is_note": True}
    return {
        "name": line.spec.name,
        "passed": line.passed,
        "measured": line.reason,
        "remedy": line.remedy or line.spec.remedy,
        "is_note": False,
    }
