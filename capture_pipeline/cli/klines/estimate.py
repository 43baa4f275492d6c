"""`capture klines backfill --dry-run`: files, bytes, requests and time of a backfill."""

from __future__ import annotations

from dataclasses import asdict

from capture_pipeline.cli.console import emit_json
from capture_pipeline.klines.estimate import Estimate
from capture_pipeline.terminal import write_line

_MB = 1_000_000


def show_estimate(found: Estimate, *, as_json: bool) -> None:
    """Write an estimate to standard output."""
    if as_json:
        emit_json(asdict(found))
        return
    write_line(f"{found.partitions:,} partitions, {found.complete:,} of them complete")
    write_line(f"to download: {found.files:,} files, {found.bytes / _MB:,.1f} MB")
    write_line(
        f"requests: {found.archive_requests:,} to the archive, {found.rest_requests:,} to REST; "
        "more if files have holes"
    )
    if not found.files:
        return
    if found.seconds is None:
        write_line("time: not known before the first download")
    else:
        write_line(f"time: about {found.seconds:,.0f} s at the speed of earlier downloads")
