"""`capture klines …`: the archive of klines."""

from __future__ import annotations

import click

from capture_pipeline.cli.groups import CommandSource, LazyGroup

_HERE = "capture_pipeline.cli.klines"


@click.group(
    "klines",
    cls=LazyGroup,
    sources={
        "backfill": CommandSource(
            f"{_HERE}.backfill", "backfill_command", "Download the archive; fill holes from REST"
        ),
        "topup": CommandSource(
            f"{_HERE}.backfill", "topup_command", "Download what is new in the open month"
        ),
        "gaps": CommandSource(
            f"{_HERE}.gaps", "gaps_command", "Show missing ranges with causes; --fill requests them"
        ),
        "coverage": CommandSource(
            f"{_HERE}.coverage", "coverage_command", "Compare expected with present bars"
        ),
        "recheck": CommandSource(
            f"{_HERE}.recheck", "recheck_command", "Find archive files that were published again"
        ),
        "reconcile": CommandSource(
            f"{_HERE}.reconcile", "reconcile_command", "Compare the monthly file with other sources"
        ),
    },
)
def klines_group() -> None:
    """Download klines, fill gaps, and measure coverage."""
