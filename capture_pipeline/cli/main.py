"""`capture`: the group of all commands; each is imported when it is called, so that none carries what another needs."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from capture_pipeline.cli.exits import EXIT_INTERRUPTED
from capture_pipeline.printable import LONGEST_LINE, printable
from capture_pipeline.terminal import show_traceback, write_line


class _Source(NamedTuple):
    """Place of a command, and its line in the list of commands, which is shown without importing the command.

    Attributes:
        module: That defines it.
        name: In that module.
        summary: One line.
    """

    module: str
    name: str
    summary: str


COMMANDS = {
    "alerts": _Source(
        "capture_pipeline.cli.alerts", "alerts_group", "Send a test alert; show open and waiting ones"
    ),
    "backfill": _Source(
        "capture_pipeline.cli.fetch",
        "backfill_command",
        "Download and verify the archive; ask REST for what is missing",
    ),
    "topup": _Source("capture_pipeline.cli.fetch", "topup_command", "Bring the open month up to now"),
    "reconcile": _Source(
        "capture_pipeline.cli.fetch",
        "reconcile_command",
        "Compare the monthly file with daily files and REST answers",
    ),
    "gaps": _Source(
        "capture_pipeline.cli.fetch",
        "gaps_command",
        "Show missing ranges with their causes; --fill asks for them",
    ),
    "recheck": _Source(
        "capture_pipeline.cli.fetch", "recheck_command", "Find archive files that were published again"
    ),
    "coverage": _Source(
        "capture_pipeline.cli.inspect", "coverage_command", "Compare expected with present bars"
    ),
    "check": _Source(
        "capture_pipeline.cli.check", "check_command", "Evaluate the gates; exit code 1 if one fails"
    ),
    "sql": _Source("capture_pipeline.cli.inspect", "sql_command", "Run a query over the tables"),
    "session": _Source(
        "capture_pipeline.cli.session", "session_group", "Record trades and order-book diffs (golden samples)"
    ),
    "preflight": _Source(
        "capture_pipeline.cli.session",
        "preflight_command",
        "Check disk, clock, network and streams before a recording",
    ),
    "validate": _Source(
        "capture_pipeline.cli.golden", "validate_command", "Check a recording or a session for completeness"
    ),
    "diagnose": _Source(
        "capture_pipeline.cli.golden", "diagnose_command", "Describe recordings of any tool and their gaps"
    ),
    "import": _Source(
        "capture_pipeline.cli.golden", "import_command", "Make a session of a recording's files"
    ),
    "convert": _Source(
        "capture_pipeline.cli.proof", "convert_command", "Make Parquet tables of a finished session"
    ),
    "prove": _Source(
        "capture_pipeline.cli.proof",
        "prove_command",
        "Compare a session with the trades that the exchange published",
    ),
    "replay": _Source(
        "capture_pipeline.cli.replay", "replay_command", "Replay the order book of a recording"
    ),
    "book": _Source("capture_pipeline.cli.replay", "book_command", "Show the order book at one instant"),
    "times": _Source(
        "capture_pipeline.cli.times", "times_command", "Tell which timestamp orders the events of a recording"
    ),
    "config": _Source(
        "capture_pipeline.cli.inspect", "config_group", "Show the settings in force, or their JSON schema"
    ),
    "sandbox": _Source(
        "sandbox_exchange.cli", "sandbox", "Run an exchange on this machine for trials and tests"
    ),
    "demo": _Source(
        "capture_pipeline.cli.demo", "demo_command", "Run the main job end to end on the sandbox exchange"
    ),
    "ui": _Source("capture_pipeline.cli.ui", "ui_command", "Open Dagster's web page and run its schedules"),
}


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
        source = COMMANDS[cmd_name]
        found: click.Command = getattr(importlib.import_module(source.module), source.name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])

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
