"""The best levels of a book at the times of a grid, as they were then: wide, a row a time, or long, a row a level.

A sample is the book after every message captured up to that time. Where the book was not valid there is none: nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from capture_pipeline.errors import MalformedData
from capture_pipeline.lake.files import publishing, storage_errors
from capture_pipeline.replay.engine import Replay, State
from capture_pipeline.replay.form import CAPTURE, Ints, Messages, Scale, part

_AT_ONCE = 4096
_UNITS = Decimal(10**8)
LONG = pa.schema(
    [
        ("sampled_ns", pa.int64()),
        ("last_id", pa.int64()),
        ("symbol", pa.string()),
        ("side", pa.string()),
        ("level", pa.int32()),
        ("price_e8", pa.int64()),
        ("quantity_e8", pa.int64()),
    ]
)
"""A row a level; `side` is bid or ask, `level` 1 is the best."""


@dataclass(frozen=True)
class Sample:
    """A book at a time.

    Attributes:
        sampled_ns: The time, nanoseconds UTC.
        last_id: Update id at which the book stood.
        bids: Ticks and lots, best first.
        asks: Likewise.
        scale: What they are worth.
    """

    sampled_ns: int
    last_id: int
    bids: tuple[Ints, Ints]
    asks: tuple[Ints, Ints]
    scale: Scale


def sampled(replay: Replay, source: Iterable[Messages], every_ns: int, depth: int) -> Iterator[Sample]:
    """Replay a source, and tell the book at each time of the grid.

    Args:
        replay: Takes the messages.
        source: Whose.
        every_ns: Step of the grid, which goes through 1970.
        depth: Levels of each side.

    Raises:
        MalformedData: See the source and `Replay.take`.
    """
    due = -1
    for messages in source:
        times = np.maximum.accumulate(messages.rows[CAPTURE])
        at = 0
        while at < len(messages):
            if due < 0:
                due = -(-int(times[0]) // every_ns) * every_ns
            stop = int(np.searchsorted(times, due, side="right"))
            if stop > at:
                replay.take(part(messages, at, stop))
            if stop == len(messages):
                break
            if replay.state is State.SYNCED and replay.scale is not None:
                bids, asks = replay.book.top(depth)
                yield Sample(due, replay.last_id, bids, asks, replay.scale)
            else:
                # What is not valid is passed over at once: the next time that can be is behind the next message.
                due = max(due, (int(times[stop]) - 1) // every_ns * every_ns)
            at, due = stop, due + every_ns


def write_samples(samples: Iterable[Sample], path: Path, symbol: str, depth: int, *, is_long: bool) -> int:
    """Write samples as Parquet; it appears whole or not at all.

    Returns:
        How many there were.

    Raises:
        MalformedData: A price is no multiple of 1e-8.
        StorageError: The disk refuses.
    """
    schema, count = (LONG if is_long else wide_schema(depth)), 0
    with storage_errors(path), publishing(path) as beside, pq.ParquetWriter(beside, schema, compression="zstd") as file:
        waiting: list[Sample] = []
        for sample in samples:
            waiting.append(sample)
            count += 1
            if len(waiting) == _AT_ONCE:
                file.write_table(_table(waiting, symbol, depth, is_long=is_long))
                waiting = []
        if waiting:
            file.write_table(_table(waiting, symbol, depth, is_long=is_long))
    return count


def wide_schema(depth: int) -> pa.Schema:
    """`sampled_ns`, `last_id`, and `bid_1_price_e8` … `ask_<depth>_quantity_e8`; null where there are fewer levels."""
    names = [f"{side}_{level}_{what}_e8" for side in ("bid", "ask") for level in range(1, depth + 1) for what in ("price", "quantity")]
    return pa.schema([("sampled_ns", pa.int64()), ("last_id", pa.int64()), *((name, pa.int64()) for name in names)])


def _table(samples: list[Sample], symbol: str, depth: int, *, is_long: bool) -> pa.Table:
    return _long(samples, symbol) if is_long else _wide(samples, depth)


def _wide(samples: list[Sample], depth: int) -> pa.Table:
    values = np.zeros((2, depth, 2, len(samples)), np.int64)
    missing = np.ones(values.shape, np.bool_)
    for number, sample in enumerate(samples):
        for side, levels in enumerate((sample.bids, sample.asks)):
            for what, column in enumerate(_in_units(levels, sample.scale)):
                values[side, : column.size, what, number], missing[side, : column.size, what, number] = column, False
    flat, gone = values.reshape(-1, len(samples)), missing.reshape(-1, len(samples))
    heads = [pa.array([sample.sampled_ns for sample in samples]), pa.array([sample.last_id for sample in samples])]
    columns = [pa.array(column, mask=mask) for column, mask in zip(flat, gone, strict=True)]
    return pa.Table.from_arrays([*heads, *columns], schema=wide_schema(depth))


def _long(samples: list[Sample], symbol: str) -> pa.Table:
    rows: dict[str, list[Ints]] = {name: [] for name in ("sampled_ns", "last_id", "side", "level", "price_e8", "quantity_e8")}
    for sample in samples:
        for side, levels in enumerate((sample.bids, sample.asks)):
            prices, quantities = _in_units(levels, sample.scale)
            fill = (sample.sampled_ns, sample.last_id, side)
            for name, value in zip(("sampled_ns", "last_id", "side"), fill, strict=True):
                rows[name].append(np.full(prices.size, value, np.int64))
            rows["level"].append(np.arange(1, prices.size + 1))
            rows["price_e8"].append(prices)
            rows["quantity_e8"].append(quantities)
    made = {name: np.concatenate(parts) if parts else np.empty(0, np.int64) for name, parts in rows.items()}
    columns = {
        **{name: pa.array(column) for name, column in made.items()},
        "side": pa.array(np.array(["bid", "ask"])[made["side"]]),
        "symbol": pa.array([symbol] * made["side"].size, pa.string()),
        "level": pa.array(made["level"].astype(np.int32)),
    }
    return pa.Table.from_arrays([columns[field.name] for field in LONG], schema=LONG)


def _in_units(levels: tuple[Ints, Ints], scale: Scale) -> tuple[Ints, Ints]:
    """Prices and quantities in units of 1e-8.

    Raises:
        MalformedData: One tick or lot is no multiple of it.
    """
    tick, lot = scale.tick * _UNITS, scale.lot * _UNITS
    if tick != int(tick) or lot != int(lot):
        raise MalformedData(f"has ticks of {scale.tick} and lots of {scale.lot}", remedy="samples hold multiples of 1e-8; leave --out away")
    return levels[0] * int(tick), levels[1] * int(lot)
