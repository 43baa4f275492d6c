"""`capture session preflight`: checks before a recording."""

from __future__ import annotations

from pathlib import Path

import click

from capture_pipeline.cli.console import emit_json, one_line_errors
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.options import CONFIG, JSON, SESSIONS, SYMBOLS
from capture_pipeline.cli.selection import symbol_names
from capture_pipeline.recorder.preflight.preflight import preflight
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
    """Check disk, clock, network and streams before a recording. Exit code 1: a check failed.

    Lines with SEEN report behaviour of the exchange that no document states. The last line names a JSON file with all of them.
    """
    with one_line_errors():
        settings = load_settings(config)
        findings = []
        for finding in preflight(settings, symbol_names(symbols), seconds=seconds, output=output):
            findings.append(finding)
            if not as_json:
                remedy = f"   → {finding.remedy}" if not finding.passed and finding.remedy else ""
                label = "SEEN" if finding.is_note and finding.passed else "PASS" if finding.passed else "FAIL"
                write_line(f"{label}  {finding.name:14} {finding.measured}{remedy}")
    if as_json:
        emit_json([vars(finding) for finding in findings])
    if not all(finding.passed for finding in findings):
        click.get_current_context().exit(EXIT_FAILED)
