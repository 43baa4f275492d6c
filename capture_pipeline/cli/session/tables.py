"""`capture session convert`: the Parquet tables of a session."""

from __future__ import annotations

from pathlib import Path

import click

from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors
from capture_pipeline.cli.deployment import open_deployment
from capture_pipeline.cli.options import CONFIG, JSON, SESSIONS
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.proof.captured_trades import read_finished_metadata
from capture_pipeline.recorder.lifecycle import find_session, sessions_root
from capture_pipeline.tables.registry import SESSION_TABLES
from capture_pipeline.terminal import write_line

_MOST_LISTED = 40


@click.command("convert", epilog="Example: capture session convert 20260803T123000Z_high_volume_btcusdt")
@click.argument("session")
@SESSIONS
@JSON
@CONFIG
def convert_command(session: str, output: Path | None, as_json: bool, config: Path | None) -> None:
    """Build the Parquet tables of a finished session; tables of an earlier run are replaced."""
    deployment = open_deployment(config)
    with one_line_errors():
        folder = find_session(sessions_root(deployment.settings, output), session)
        read_finished_metadata(folder)
        manifest = convert(folder.recording, folder.session, deployment.lake.tables())
    if as_json:
        emit_json(manifest.model_dump(mode="json"))
        return
    emit_table(
        f"Tables of {session}",
        ("path", "rows", "bytes"),
        [file.model_dump() for file in manifest.files[:_MOST_LISTED]],
    )
    if len(manifest.files) > _MOST_LISTED:
        write_line(f"and {len(manifest.files) - _MOST_LISTED:,} more files; --json has them all")
    rows = ", ".join(f"{manifest.rows[table.name]:,} rows of {table.name}" for table in SESSION_TABLES)
    write_line(f"{len(manifest.files):,} files, {rows}; in {deployment.lake.tables()}")
