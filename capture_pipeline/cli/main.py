"""`capture`: the group of all commands; each is imported when it is called, so that none carries what another needs."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import click

from capture_pipeline.cli.exits import EXIT_INTERRUPTED
from capture_pipeline.printable import LONGEST_LINE, printable
from capture_pipeline.terminal import show_traceback, write_line

COMMANDS = {
    "alerts": ("capture_pipeline.cli.alerts", "alerts_group"),
    "backfill": ("capture_pipeline.cli.fetch", "backfill_command"),
    "topup": ("capture_pipeline.cli.fetch", "topup_command"),
    "gaps": ("capture_pipeline.cli.fetch", "gaps_command"),
    "recheck": ("capture_pipeline.cli.fetch", "recheck_command"),
    "coverage": ("capture_pipeline.cli.inspect", "coverage_command"),
    "check": ("capture_pipeline.cli.check", "check_command"),
    "sql": ("capture_pipeline.cli.inspect", "sql_command"),
    "session": ("capture_pipeline.cli.session", "session_group"),
    "preflight": ("capture_pipeline.cli.session", "preflight_command"),
    "validate": ("capture_pipeline.cli.golden", "validate_command"),
    "diagnose": ("capture_pipeline.cli.golden", "diagnose_command"),
    "import": ("capture_pipeline.cli.golden", "import_command"),
    "convert": ("capture_pipeline.cli.proof", "convert_command"),
    "prove": ("capture_pipeline.cli.proof", "prove_command"),
    "replay": ("capture_pipeline.cli.replay", "replay_command"),
    "book": ("capture_pipeline.cli.replay", "book_command"),
    "times": ("capture_pipeline.cli.times", "times_command"),
    "config": ("capture_pipeline.cli.inspect", "config_group"),
    "sandbox": ("capture_pipeline.sandbox.cli", "sandbox"),
    "demo": ("capture_pipeline.cli.demo", "demo_command"),
    "ui": ("capture_pipeline.cli.ui", "ui_command"),
}
"""Each command with the module and the name it is found under."""


class _Commands(click.Group):
    """All commands; one that is interrupted ends with 130, as a shell expects, not with the 1 that is a verdict on the data."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every name."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:  # noqa: ANN401 - passed on
        """Parse the command line."""
        with _printable_errors():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> object:
        """Run the chosen command."""
        try:
            with _printable_errors():
                return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            write_line("Interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@contextlib.contextmanager
def _printable_errors() -> Iterator[None]:
    """Escape what an error about the command line quotes of it: a name of a file may be anything."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise click.UsageError(printable(error.format_message(), LONGEST_LINE), error.ctx) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="capture-pipeline")
def main() -> None:
    """Market data with its gaps recorded."""
    sys.excepthook = show_traceback
