"""`capture`: the entry point of the command line."""

from __future__ import annotations

import sys

import click

from capture_pipeline.cli.groups import CommandSource, MainGroup
from capture_pipeline.terminal import show_traceback

COMMANDS = {
    "alerts": CommandSource(
        "capture_pipeline.cli.alerts", "alerts_group", "Send a test alert; show open alerts"
    ),
    "check": CommandSource(
        "capture_pipeline.cli.check", "check_command", "Evaluate the gates; exit code 1 if one fails"
    ),
    "config": CommandSource(
        "capture_pipeline.cli.config", "config_group", "Show current settings, or their JSON schema"
    ),
    "demo": CommandSource(
        "capture_pipeline.cli.demo.command", "demo_command", "Run the main job on the sandbox exchange"
    ),
    "klines": CommandSource(
        "capture_pipeline.cli.klines", "klines_group", "Download klines; show gaps and coverage"
    ),
    "sandbox": CommandSource(
        "sandbox_exchange.cli", "sandbox", "Run an exchange on this machine for trials and tests"
    ),
    "session": CommandSource(
        "capture_pipeline.cli.session", "session_group", "Record, validate, prove and replay sessions"
    ),
    "sql": CommandSource("capture_pipeline.cli.sql", "sql_command", "Run a query over the tables"),
    "ui": CommandSource(
        "capture_pipeline.cli.ui", "ui_command", "Open Dagster's web page and run its schedules"
    ),
}
_MOVED = {
    **{
        name: f"capture klines {name}"
        for name in ("backfill", "coverage", "gaps", "recheck", "reconcile", "topup")
    },
    **{
        name: f"capture session {name}"
        for name in (
            "book",
            "convert",
            "diagnose",
            "import",
            "preflight",
            "prove",
            "replay",
            "times",
            "validate",
        )
    },
}


@click.group(
    cls=MainGroup,
    sources=COMMANDS,
    moved=_MOVED,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(package_name="capture-pipeline")
def main() -> None:
    """Download klines and record live market data, with a list of every gap."""
    sys.excepthook = show_traceback
