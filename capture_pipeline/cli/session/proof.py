"""`capture session prove`: compare a session with the published trades and klines of its days."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capture_pipeline.binance.periods import iso
from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors
from capture_pipeline.cli.deployment import open_deployment
from capture_pipeline.cli.exits import EXIT_COULD_NOT_RUN, EXIT_FAILED
from capture_pipeline.cli.options import CONFIG, JSON, SESSIONS
from capture_pipeline.golden.proof.prover import prove
from capture_pipeline.golden.proof.report import SessionProof, State
from capture_pipeline.recorder.lifecycle import find_session, sessions_root
from capture_pipeline.terminal import write_line

_MOST_LISTED = 40
_EXITS = {State.DIFFERS: EXIT_FAILED, State.UNPROVED: EXIT_COULD_NOT_RUN}


@click.command("prove", epilog="Example: capture session prove 20260803T123000Z_high_volume_btcusdt")
@click.argument("session")
@SESSIONS
@JSON
@CONFIG
def prove_command(session: str, output: Path | None, as_json: bool, config: Path | None) -> None:
    """Compare a session with the trades and klines that the exchange published.

    Exit code 1: the session differs. 2: at least one published file could not be compared; the command names
    it and compares all other files.
    """
    deployment = open_deployment(config)
    with one_line_errors():
        folder = find_session(sessions_root(deployment.settings, output), session)
        proof = prove(deployment, folder)
    if as_json:
        emit_json(proof.to_dict())
    else:
        _show(proof, deployment.lake.proof(folder.session))
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
