"""`capture session book`: an order book at one time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from capture_pipeline.binance.periods import iso, parse_time
from capture_pipeline.binance.symbols import parse_symbol
from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors
from capture_pipeline.cli.deployment import open_deployment
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.options import BOOK_SYMBOL, CONFIG, JSON
from capture_pipeline.cli.session.target import book_source
from capture_pipeline.orderbook.synchronization import State
from capture_pipeline.replay.book_lookup import Absence, BookAt, find_book
from capture_pipeline.replay.checkpoints import Checkpoints
from capture_pipeline.terminal import write_line


@click.command(
    "book", epilog="Example: capture session book recording.jsonl.gz --at 2026-08-03T14:30:05.123Z"
)
@click.argument("target")
@BOOK_SYMBOL
@click.option("--at", "at_text", required=True, help="Time, UTC, for instance 2026-08-03T14:30:05.123Z.")
@click.option(
    "--depth",
    type=click.IntRange(1, 50_000),
    default=10,
    show_default=True,
    help="Number of levels of each side.",
)
@JSON
@CONFIG
def book_command(
    target: str, symbol: str, at_text: str, depth: int, as_json: bool, config: Path | None
) -> None:
    """Show the order book of TARGET at a time: after all messages that were captured up to it.

    TARGET is a recording, the folder of a session, or the id of a session. If the session has tables, the
    recording is not read from its start.

    Exit code 1: the book at that time is not known; the command reports the reason and the period without a
    book.
    """
    with one_line_errors():
        at_ns = parse_time(at_text) * 1000
        source = book_source(target, parse_symbol(symbol) if symbol else "", open_deployment(config))
        found = source.find_book(at_ns) if isinstance(source, Checkpoints) else find_book(source, at_ns)
        name = source.symbol
    replay = found.replay
    document = {
        "symbol": name,
        "at": at_text,
        "state": _state_of(found),
        "last_id": found.last_id,
        "captured_ns": found.capture_ns,
        "goes_on": found.has_later_messages,
    }
    if found.absence is not None or replay.scale is None:
        what = _reason_of(found)
        if as_json:
            emit_json(document | {"bids": [], "asks": [], "reason": what, "hole": _hole_of(found)})
        else:
            until = (
                f"the next valid book is that of {_time_of(found.to_ns)}"
                if found.to_ns
                else "no valid book follows"
            )
            write_line(f"No valid book of {name} at {at_text}: {what}; {until}", err=True)
        click.get_current_context().exit(EXIT_FAILED)
    (bids, asks) = replay.book.top(depth)
    price, quantity = replay.scale.price, replay.scale.quantity
    levels = [
        [(f"{price(int(tick)):f}", f"{quantity(int(lots)):f}") for tick, lots in zip(*side, strict=True)]
        for side in (bids, asks)
    ]
    if as_json:
        emit_json(document | {"bids": levels[0], "asks": levels[1]})
        return
    rows: list[dict[str, Any]] = [{} for _ in range(max(map(len, levels)))]
    for side, side_levels in zip(("bid", "ask"), levels, strict=True):
        for row, (level_price, level_quantity) in zip(rows, side_levels, strict=False):
            row |= {f"{side}": level_price, f"{side}_quantity": level_quantity}
    emit_table(
        f"{name} at {at_text}, update id {found.last_id}",
        ("bid_quantity", "bid", "ask", "ask_quantity"),
        rows,
    )
    bid_count, ask_count = replay.book.level_counts
    write_line(
        f"{bid_count:,} bids and {ask_count:,} asks in total; last message captured at "
        f"{_time_of(found.capture_ns)}"
    )


def _state_of(found: BookAt) -> str:
    """Return the state to show.

    After the last diff before missing ids, the replay alone would still be synced.
    """
    if found.state is State.SYNCED and found.absence is not None:
        return "unknown" if found.absence is Absence.END else str(State.INVALID)
    return str(found.state)


def _reason_of(found: BookAt) -> str:
    """Return the reason why no book is known."""
    missing = found.missing
    if missing is not None:
        since = (
            f"no book is known after {_time_of(found.from_ns)}"
            if found.from_ns
            else "no book was valid before"
        )
        lost = (
            f"ids are missing after {missing.last_good_id}, the next one recorded is {missing.first_good_id}"
        )
        return f"{lost} ({missing.first_good_id - missing.last_good_id - 1:,} ids); {since}"
    if found.absence is Absence.END:
        return (
            f"the recording has no diff after {_time_of(found.from_ns)}"
            if found.from_ns
            else "the recording has no further diff"
        )
    return "no snapshot had arrived"


def _hole_of(found: BookAt) -> dict[str, int | None]:
    missing = found.missing
    return {
        "from_ns": found.from_ns,
        "to_ns": found.to_ns,
        "last_good_id": missing.last_good_id if missing else None,
        "first_good_id": missing.first_good_id if missing else None,
    }


def _time_of(capture_ns: int) -> str:
    return iso(capture_ns // 1000)
