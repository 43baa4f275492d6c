"""`capture replay` and `capture book`: a book from its diffs, all the way or at one time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from capture_pipeline.binance.periods import iso, parse_time
from capture_pipeline.binance.symbols import parse_symbol
from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors
from capture_pipeline.cli.deployment import open_workspace
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.cli.lengths import Length
from capture_pipeline.cli.replay_target import book_source, replay_source
from capture_pipeline.replay.book_at import Absence, BookAt, find_book
from capture_pipeline.replay.checkpoints import Checkpoints
from capture_pipeline.replay.engine import Replay, State
from capture_pipeline.replay.messages import Messages, Source
from capture_pipeline.replay.sampling import sample_book, write_samples
from capture_pipeline.terminal import write_line

_CONFIG = click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), help="pipeline.yaml, if not the nearest one."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
_SYMBOL = click.option("--symbol", default="", help="Whose book; needed where there are several.")
_MAX_DISCONTINUITIES = 20


@click.command("replay")
@click.argument("target")
@_SYMBOL
@click.option(
    "--every",
    "every_s",
    type=Length(),
    help="Keep the best levels at this step, for instance 1s; needs --out.",
)
@click.option(
    "--depth",
    type=click.IntRange(1, 5000),
    default=20,
    show_default=True,
    help="Levels of each side to keep.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="The Parquet file for them.")
@click.option("--long", "is_long", is_flag=True, help="A row a level instead of a row a time.")
@_JSON
@_CONFIG
def replay_command(
    target: str,
    symbol: str,
    every_s: float | None,
    depth: int,
    out: Path | None,
    is_long: bool,
    as_json: bool,
    config: Path | None,
) -> None:
    """Replay the book of TARGET: a recording, the folder of a session or its id. Report counts, missing ids and the last best prices.

    Discontinuities are told and are no failure: after one there is no book until the next snapshot. Exit code 2: unreadable.
    """
    if (every_s is None) != (out is None) or (is_long and out is None):
        raise click.UsageError(
            "--every and --out go together, and --long with them: the step, and the file for the levels"
        )
    replay, started = Replay(), time.monotonic()
    with one_line_errors():
        source = replay_source(target, _parsed(symbol), open_workspace(config))
        watched = _watched(source, replay, quiet=as_json)
        if every_s is not None and out is not None:
            count = write_samples(
                sample_book(replay, watched, round(every_s * 1e9), depth),
                out,
                source.symbol,
                depth,
                is_long=is_long,
            )
        else:
            count = 0
            for messages in watched:
                replay.process(messages)
    told = _told(source, replay, time.monotonic() - started)
    if out is not None:
        told |= {"samples": count, "out": str(out)}
    if as_json:
        emit_json(told)
    else:
        _show(told)


@click.command("book")
@click.argument("target")
@_SYMBOL
@click.option("--at", "at_text", required=True, help="The time, UTC: 2026-08-03T14:30:05.123Z.")
@click.option(
    "--depth", type=click.IntRange(1, 50_000), default=10, show_default=True, help="Levels of each side."
)
@_JSON
@_CONFIG
def book_command(
    target: str, symbol: str, at_text: str, depth: int, as_json: bool, config: Path | None
) -> None:
    """Show the book of TARGET as it was after every message captured up to a time.

    TARGET is a recording, the folder of a session or its id. With tables, the book is found without reading the recording from its start.
    Exit code 1: the book at that time is not known; the reason and the time without a book are named.
    """
    with one_line_errors():
        at_ns = parse_time(at_text) * 1000
        source = book_source(target, _parsed(symbol), open_workspace(config))
        found = source.find_book(at_ns) if isinstance(source, Checkpoints) else find_book(source, at_ns)
        name = source.symbol
    replay = found.replay
    told = {
        "symbol": name,
        "at": at_text,
        "state": _state_of(found),
        "last_id": found.last_id,
        "captured_ns": found.capture_ns,
        "has_later_messages": found.has_later_messages,
    }
    if found.absence is not None or replay.scale is None:
        what = _reason_of(found)
        if as_json:
            emit_json(told | {"bids": [], "asks": [], "reason": what, "hole": _hole_of(found)})
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
        emit_json(told | {"bids": levels[0], "asks": levels[1]})
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
        f"{bid_count:,} bids and {ask_count:,} asks in all; last message captured at {_time_of(found.capture_ns)}"
    )


def _state_of(found: BookAt) -> str:
    """The state to show: after the last diff before missing ids the replay alone would still be synced."""
    if found.state is State.SYNCED and found.absence is not None:
        return "unknown" if found.absence is Absence.END else str(State.INVALID)
    return str(found.state)


def _reason_of(found: BookAt) -> str:
    """Why no book is known."""
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
    return "no snapshot had come"


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


def _parsed(symbol: str) -> str:
    return parse_symbol(symbol) if symbol else ""


def _watched(source: Source, replay: Replay, *, quiet: bool) -> Iterator[Messages]:
    """The messages of a source, with what was done so far told each second."""
    told = started = time.monotonic()
    tell: Callable[[str], None] = (lambda _: None) if quiet else (lambda text: write_line(text, err=True))
    pieces: Iterable[Messages] = source
    for messages in pieces:
        yield messages
        now = time.monotonic()
        if now - told >= 1:
            told, counts = now, replay.counts
            rate = counts.events / (now - started) / 1e6
            tell(
                f"{source.where}: {counts.messages:,} messages, {counts.events:,} level updates, {rate:.1f} M/s, {counts.gaps} gaps"
            )


def _told(source: Source, replay: Replay, seconds: float) -> dict[str, Any]:
    counts, best = replay.counts, replay.best()
    names = ("bid", "bid_quantity", "ask", "ask_quantity")
    return {
        "source": source.where,
        "symbol": source.symbol,
        "state": str(replay.state),
        "last_id": replay.last_id,
        "messages": counts.messages,
        "events": counts.events,
        "seconds": seconds,
        "events_per_s": counts.events / seconds if seconds else None,
        "snapshots": counts.snapshots,
        "spare_snapshots": counts.unused_snapshots,
        "stale": counts.stale_diffs,
        "unsynced": counts.unsynced_diffs,
        "crossed": replay.book.crossed,
        "gaps": counts.gaps,
        "discontinuities": [vars(one) for one in counts.discontinuities],
        "best": None if best is None else dict(zip(names, (f"{value:f}" for value in best), strict=True)),
    }


def _shown(discontinuity: dict[str, Any]) -> dict[str, Any]:
    until_ns, again_ns = discontinuity["valid_until_ns"], discontinuity["valid_again_ns"]
    times = {
        "no_book_after": _time_of(until_ns) if until_ns else "the start",
        "valid_again": _time_of(again_ns) if again_ns else "never",
    }
    return discontinuity | times


def _show(told: dict[str, Any]) -> None:
    if told["discontinuities"]:
        rows = [_shown(one) for one in told["discontinuities"][:_MAX_DISCONTINUITIES]]
        emit_table("Ids missing", ("last_good_id", "first_good_id", "no_book_after", "valid_again"), rows)
        if told["gaps"] > _MAX_DISCONTINUITIES:
            write_line(f"and {told['gaps'] - _MAX_DISCONTINUITIES:,} more; --json has the first thousand")
    rate = told["events_per_s"] or 0
    write_line(
        f"{told['symbol'] or told['source']}: {told['messages']:,} messages, {told['events']:,} level updates in {told['seconds']:.1f} s"
        f" ({rate / 1e6:.2f} M/s); {told['gaps']} gaps, {told['snapshots']} snapshots taken, crossed {told['crossed']} times"
    )
    best = told["best"]
    if best is None:
        write_line(f"The book is {told['state']} at the end: it has no best prices")
    else:
        write_line(
            f"Best bid {best['bid']} × {best['bid_quantity']}, best ask {best['ask']} × {best['ask_quantity']}, update id {told['last_id']}"
        )
    if "out" in told:
        write_line(f"{told['samples']:,} samples in {told['out']}")
