"""`capture`: the group of all commands."""

from __future__ import annotations

import click

from capture_pipeline.cli.check import check_command
from capture_pipeline.cli.console import EXIT_INTERRUPTED
from capture_pipeline.cli.demo import demo_command
from capture_pipeline.cli.fetch import backfill_command, gaps_command, recheck_command, topup_command
from capture_pipeline.cli.golden import diagnose_command, import_command, validate_command
from capture_pipeline.cli.inspect import config_group, coverage_command, sql_command
from capture_pipeline.cli.session import preflight_command, session_group
from capture_pipeline.cli.ui import ui_command
from capture_pipeline.sandbox.cli import sandbox


class _Commands(click.Group):
    """All commands; one that is interrupted ends with 130, as a shell expects, not with the 1 that is a verdict on the data."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            click.echo("Interrupted", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="capture-pipeline")
def main() -> None:
    """Market data with its gaps recorded."""


for command in (
    backfill_command,
    topup_command,
    gaps_command,
    recheck_command,
    coverage_command,
    check_command,
    sql_command,
    session_group,
    preflight_command,
    validate_command,
    diagnose_command,
    import_command,
    config_group,
    sandbox,
    demo_command,
    ui_command,
):
    main.add_command(command)
