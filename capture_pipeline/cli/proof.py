"""`capture convert` and `capture prove`: the tables of a session, and its proof by what the exchange publishes the day after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capture_pipeline.binance.periods import iso
from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors
from capture_pipeline.cli.deployment import open_workspace
from capture_pipeline.cli.exits import EXIT_COULD_NOT_RUN, EXIT_FAILED
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.proof.captured_trades import read_finished_metadata
from capture_pipeline.golden.proof.prover import prove
from capture_pipeline.golden.proof.report import SessionProof, State
from capture_pipeline.recorder.lifecycle import find_session, sessions_root
from capture_pipeline.tables.golden import TABLES
from capture_pipeline.terminal import write_line

_MOST_LISTED = 40
_EXITS = {State.DIFFERS: EXIT_FAILED, State.UNPROVED: EXIT_COULD_NOT_RUN}
_CONFIG = click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), help="pipeline.yaml, if not the nearest one."
)
_OUTPUT = click.option(
    "--output-dir", "output", type=click.Path(file_okay=False, path_type=Path), help="Where sessions lie."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")


@click.command("convert")
@click.argument("session")
@_OUTPUT
@_JSON
@_CONFIG
def convert_command(session: str, output: Path | None, as_json: bool, config: Path | None) -> None:
    """Make typed tables of a finished session; what an earlier run made of it is replaced."""
    workspace = open_workspace(config)
    with one_line_errors():
        folder = find_session(sessions_root(workspace.settings, output), session)
        read_finished_metadata(folder)
        manifest = convert(folder.recording, folder.session, workspace.lake.tables())
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
    rows = ", ".join(f"{manifest.rows[table.name]:,} rows of {table.name}" for table in TABLES)
    write_line(f"{len(manifest.files):,} files, {rows}; in {workspace.lake.tables()}")


@click.command("prove")
@click.argument("session")
@_OUTPUT
@_JSON
@_CONFIG
def prove_command(session: str, output: Path | None, as_json: bool, config: Path | None) -> None:
    """Hold a session against the trades and klines that the exchange published.

    Exit code 1: it differs. 2: a file could not be compared, which is told while the others are, or nothing could be proved at all.
    """
    workspace = open_workspace(config)
    with one_line_errors():
        folder = find_session(sessions_root(workspace.settings, output), session)
        proof = prove(workspace, folder)
    if as_json:
        emit_json(proof.to_dict())
    else:
        _show(proof, workspace.lake.proof(folder.session))
    if proof.state in _EXITS:
        click.get_current_context().exit(_EXITS[proof.state])


def _show_tables(proof: SessionProof, rows: list[dict[str, Any]]) -> None:
    if rows:
        emit_table(f"Proof of {proof.session}", tuple(rows[0]), rows)
    if proof.gaps:
        columns = ("stream", "first_lost", "last_lost", "by_rest", "by_archive", "not_published", "waits_for")
        emit_table(
            "Lost ids that REST did not complete",
            columns,
            [gap.model_dump() for gap in proof.gaps[:_MOST_LISTED]],
        )


def _show(proof: SessionProof, path: Path) -> None:
    rows = [
        {
            "symbol": day.symbol,
            "day": str(day.day),
            "state": str(day.state),
            "captured": day.trades.trades_captured if day.trades else None,
            "published": day.trades.trades_published if day.trades else None,
            "known_losses": day.trades.known_lost if day.trades else None,
            "minutes": day.bars.bars_compared if day.bars else None,
            "left_out": day.bars.bars_left_out if day.bars else None,
            "differences": sum(part.differences for part in (day.trades, day.bars) if part),
        }
        for day in proof.days
    ]
    _show_tables(proof, rows)
    listed = [difference.model_dump() for day in proof.days for difference in day.listed]
    if listed:
        emit_table("Differences", ("where", "field", "captured", "published"), listed[:_MOST_LISTED])
        if len(listed) > _MOST_LISTED:
            write_line(f"and {len(listed) - _MOST_LISTED:,} more; --json has the first fifty of each day")
    for day in proof.days:
        if day.waits_for:
            write_line(f"{day.symbol} {day.day} waits for {day.waits_for}, due {iso(day.due_us)}")
    for each in proof.not_compared:
        write_line(each)
    for symbol in proof.symbols_without_trades:
        write_line(f"{symbol}: no trade was captured, so nothing was compared")
    write_line(f"{proof.state}; from its {proof.captured_from}; {path}")
