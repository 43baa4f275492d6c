"""`capture session replay`: an order book from all of its diffs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from capture_pipeline.binance.periods import iso
from capture_pipeline.binance.symbols import parse_symbol
from capture_pipeline.cli.console import emit_json, emit_table, one_line_errors
from capture_pipeline.cli.deployment import open_deployment
from capture_pipeline.cli.options import BOOK_SYMBOL, CONFIG, JSON, Duration
from capture_pipeline.cli.session.target import replay_source
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.messages import Messages, Source
from capture_pipeline.replay.sampling import sample_book, write_samples
from capture_pipeline.terminal import write_line

_MOST_LISTED = 20


@click.command(
    "replay",
    epilog="Example: capture session replay recording.jsonl.gz --every 1s --depth 20 --out book.parquet",
)
@click.argument("target")
@BOOK_SYMBOL
@click.option(
    "--every",
    "every_s",
    type=Duration(),
    help="Write the best levels at this interval, for instance 1s; needs --out.",
)
@click.option(
    "--depth",
    type=click.IntRange(1, 5000),
    default=20,
    show_default=True,
    help="Number of levels of each side to write.",
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Parquet file of the levels.")
@click.option("--long", "is_long", is_flag=True, help="Write one row per level instead of one row per time.")
@JSON
@CONFIG
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
    """Replay the order book of TARGET: a recording, the folder of a session, or the id of a session.

    The report contains counts, missing ids and the last best prices. Missing ids do not fail the command:
    after missing ids there is no book until the next snapshot.

    Exit code 2: TARGET cannot be read.
    """
    if (every_s is None) != (out is None) or (is_long and out is None):
        raise click.UsageError(
            "--every and --out need each other, and --long needs both: give the interval and the file"
        )
    replay, started = Replay(), time.monotonic()
    with one_line_errors():
        source = replay_source(target, parse_symbol(symbol) if symbol else "", open_deployment(config))
        watched = _report_progress(source, replay, quiet=as_json)
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
    report = _build_report(source, replay, time.monotonic() - started)
    if out is not None:
        report |= {"samples": count, "out": str(out)}
    if as_json:
        emit_json(report)
    else:
        _show(report)


def _time_of(capture_ns: int) -> str:
    return iso(capture_ns // 1000)


def _report_progress(source: Source, replay: Replay, *, quiet: bool) -> Iterator[Messages]:
    """Yield the messages of a source; write progress each second."""
    reported_s = started = time.monotonic()
    tell: Callable[[str], None] = (lambda _: None) if quiet else (lambda text: write_line(text, err=True))
    pieces: Iterable[Messages] = source
    for messages in pieces:
        yield messages
        now = time.monotonic()
        if now - reported_s >= 1:
            reported_s, counts = now, replay.counts
            rate = counts.events / (now - started) / 1e6
            tell(
                f"{source.where}: {counts.messages:,} messages, {counts.events:,} level updates, "
                f"{rate:.1f} M/s, {counts.gaps} gaps"
            )


def _build_report(source: Source, replay: Replay, seconds: float) -> dict[str, Any]:
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


def _show(report: dict[str, Any]) -> None:
    if report["discontinuities"]:
        rows = [_shown(one) for one in report["discontinuities"][:_MOST_LISTED]]
        emit_table("Ids missing", ("last_good_id", "first_good_id", "no_book_after", "valid_again"), rows)
        if report["gaps"] > _MOST_LISTED:
            write_line(f"and {report['gaps'] - _MOST_LISTED:,} more; --json has the first thousand")
    rate = report["events_per_s"] or 0
    write_line(
        f"{report['symbol'] or report['source']}: {report['messages']:,} messages, "
        f"{report['events']:,} level updates in {report['seconds']:.1f} s"
        f" ({rate / 1e6:.2f} M/s); {report['gaps']} gaps, {report['snapshots']} snapshots loaded, "
        f"crossed {report['crossed']} times"
    )
    best = report["best"]
    if best is None:
        write_line(f"The book is {report['state']} at the end: it has no best prices")
    else:
        write_line(
            f"Best bid {best['bid']} × {best['bid_quantity']}, best ask {best['ask']} × "
            f"{best['ask_quantity']}, update id {report['last_id']}"
        )
    if "out" in report:
        write_line(f"{report['samples']:,} samples in {report['out']}")
