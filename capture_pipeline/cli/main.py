"""`capture`: the group of all commands."""

from __future__ import annotations

import click

from capture_pipeline.cli.check import check_command
from capture_pipeline.cli.demo import demo_command
from capture_pipeline.cli.fetch import backfill_command, gaps_command, recheck_command, topup_command
from capture_pipeline.cli.inspect import config_group, coverage_command, sql_command
from capture_pipeline.cli.ui import ui_command
from capture_pipeline.sandbox.cli import sandbox


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
    config_group,
    sandbox,
    demo_command,
    ui_command,
):
    main.add_command(command)
