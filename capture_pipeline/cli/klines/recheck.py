"""`capture klines recheck`: archive files that were published again."""

from __future__ import annotations

import click

from capture_pipeline.cli.console import emit_failures, emit_json, emit_table, one_line_errors, progress
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.options import JSON
from capture_pipeline.cli.selection import partition_options, partitions
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.ingest.archives import recheck_partition
from capture_pipeline.klines.pending_work import WorkList, find_due_for_recheck
from capture_pipeline.terminal import write_line


@click.command("recheck", epilog="Example: capture klines recheck --all")
@click.option(
    "--all", "every", is_flag=True, help="Read all published checksums again, not only those that are due."
)
@JSON
@partition_options
def recheck_command(deployment: Deployment, every: bool, as_json: bool) -> None:
    """Read published checksums again; the next backfill downloads files that were published again."""
    with one_line_errors():
        now_us = deployment.rest.server_time_us()
        parts = partitions(deployment, now_us)
        begun = [part for part in parts if deployment.lake.raw(part).is_dir()]
        due = WorkList(begun) if every else find_due_for_recheck(deployment, now_us, len(parts))
        rows = []
        with progress("recheck", len(due.partitions), quiet=as_json) as tell:
            for part in due.partitions:
                rows += [
                    {"symbol": part.symbol, "month": str(part.month), "file": one.name, "detail": one.detail}
                    for one in recheck_partition(deployment, part, now_us)
                ]
                tell(str(part))
    if as_json:
        emit_json({"rechecked": len(due.partitions), "published_anew": rows})
    else:
        if rows:
            emit_table("Published again", ("symbol", "month", "file", "detail"), rows)
        write_line(f"{len(due.partitions)} partitions read again, {len(rows)} files were published again")
    emit_failures(list(due.damaged.values()))
    if due.damaged:
        click.get_current_context().exit(EXIT_FAILED)
