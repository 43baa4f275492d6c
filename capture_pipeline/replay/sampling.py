"""Samples of the best levels of a book at regular times, as a wide or a long table.

A sample is the book after every message captured up to its time, by the recorder's clock. There is no sample
at a time at which the book is not known: nothing is interpolated, and no sample lies between the last diff
before missing ids and the next valid book.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.lake.files import atomic_write, storage_errors
from capture_pipeline.orderbook.compiled.book import LevelArrays
from capture_pipeline.orderbook.synchronization import Relation, State
from capture_pipeline.replay.discontinuities import find_next_diff
from capture_pipeline.replay.engine import Replay
from capture_pipeline.replay.messages import CAPTURE, Ints, Messages, Scale, slice_view
from capture_pipeline.tables.golden.samples import LONG_SAMPLES, wide_samples

_BATCH_SIZE = 4096
_UNITS = Decimal(10**8)


@dataclass(frozen=True)
class Sample:
    """Best levels of a book at one time.

    Attributes:
        sampled_ns: The time, nanoseconds UTC.
        last_id: Last update id of the book.
        bids: Best bids, best first.
        asks: Best asks, best first.
        scale: Value of a tick and a lot.
    """

    sampled_ns: int
    last_id: int
    bids: LevelArrays
    asks: LevelArrays
    scale: Scale


def sample_book(replay: Replay, source: Iterable[Messages], every_ns: int, depth: int) -> Iterator[Sample]:
    """Replay a source, and yield the book at each time of a regular grid at which it is known.

    A sample is yielded when the next diff continues the book, or if its time is the capture time of the last
    diff. Times between the last diff before missing ids and the next valid book have no sample, and neither
    have times at or after the last message.

    Args:
        replay: Processes the messages.
        source: Messages of one symbol.
        every_ns: Interval; sample times are multiples of it, counted from 1970.
        depth: Levels of each side.

    Raises:
        MalformedDataError: The source is damaged (see the source), or see `Replay.process`.
    """
    grid = _Grid(replay, every_ns, depth)
    for messages in source:
        yield from grid.process(messages)


class _Grid:
    """Sample times that are due or that wait for the next diff.

    All waiting samples have the same book, because the book does not change until the next diff.
    """

    def __init__(self, replay: Replay, every_ns: int, depth: int) -> None:
        self._replay, self._every_ns, self._depth = replay, every_ns, depth
        self._due = -1
        self._waiting: list[range] = []

    def process(self, messages: Messages) -> Iterator[Sample]:
        """Process messages, and yield the samples that are certain."""
        times, at = np.maximum.accumulate(messages.rows[CAPTURE]), 0
        if self._waiting:
            relation = find_next_diff(messages, self._replay.last_id).relation
            if relation is Relation.CONTINUES:
                yield from self._samples(chain.from_iterable(self._waiting))
            if relation is not None:
                self._waiting.clear()
        if self._due < 0 and times.size:
            self._due = -(-int(times[0]) // self._every_ns) * self._every_ns
        while at < len(messages):
            stop = int(np.searchsorted(times, self._due, side="right"))
            if stop > at:
                self._replay.process(slice_view(messages, at, stop))
            if stop == len(messages):
                break
            yield from self._samples(self._decide(messages, stop, int(times[stop])))
            at = stop

    def _decide(self, messages: Messages, at: int, capture_ns: int) -> range:
        """Return the times, due before the next message, at which the book is known.

        Without a further diff in these messages the times wait, because the next diff shows whether the book
        is known.
        """
        times = range(self._due, capture_ns, self._every_ns)
        self._due = times[-1] + self._every_ns
        if self._replay.state is not State.SYNCED:
            return times[:0]
        relation = find_next_diff(messages, self._replay.last_id, at).relation
        if relation is not Relation.CONTINUES:
            known = int(self._replay.is_known(times[0], relation))
            self._waiting += [times[known:]] if relation is None else []
            times = times[:known]
        return times

    def _samples(self, times: Iterable[int]) -> Iterator[Sample]:
        replay = self._replay
        if not times or replay.scale is None:
            return
        bids, asks = replay.book.top(self._depth)
        for sampled_ns in times:
            yield Sample(sampled_ns, replay.last_id, bids, asks, replay.scale)


def write_samples(samples: Iterable[Sample], path: Path, symbol: str, depth: int, *, is_long: bool) -> int:
    """Write samples to a Parquet file. The file appears only when it is complete.

    Returns:
        The number of samples.

    Raises:
        MalformedDataError: A tick or a lot is not a multiple of 1e-8.
        StorageError: The file cannot be written.
    """
    table, count = (LONG_SAMPLES if is_long else wide_samples(depth)), 0
    with (
        storage_errors(path),
        atomic_write(path) as partial,
        pq.ParquetWriter(partial, table.arrow_schema, compression="zstd") as file,
    ):
        waiting: list[Sample] = []
        for sample in samples:
            waiting.append(sample)
            count += 1
            if len(waiting) == _BATCH_SIZE:
                file.write_table(_table(waiting, symbol, depth, is_long=is_long))
                waiting = []
        if waiting:
            file.write_table(_table(waiting, symbol, depth, is_long=is_long))
    return count


def _table(samples: list[Sample], symbol: str, depth: int, *, is_long: bool) -> pa.Table:
    return _long(samples, symbol) if is_long else _wide(samples, depth)


def _wide(samples: list[Sample], depth: int) -> pa.Table:
    values = np.zeros((2, depth, 2, len(samples)), np.int64)
    missing = np.ones(values.shape, np.bool_)
    for number, sample in enumerate(samples):
        for side, levels in enumerate((sample.bids, sample.asks)):
            for what, column in enumerate(_in_units(levels, sample.scale)):
                values[side, : column.size, what, number], missing[side, : column.size, what, number] = (
                    column,
                    False,
                )
    flat, gone = values.reshape(-1, len(samples)), missing.reshape(-1, len(samples))
    heads = [
        pa.array([sample.sampled_ns for sample in samples]),
        pa.array([sample.last_id for sample in samples]),
    ]
    columns = [pa.array(column, mask=mask) for column, mask in zip(flat, gone, strict=True)]
    return pa.Table.from_arrays([*heads, *columns], schema=wide_samples(depth).arrow_schema)


def _long(samples: list[Sample], symbol: str) -> pa.Table:
    rows: dict[str, list[Ints]] = {
        name: [] for name in ("sampled_ns", "last_id", "side", "level", "price_e8", "quantity_e8")
    }
    for sample in samples:
        for side, levels in enumerate((sample.bids, sample.asks)):
            prices, quantities = _in_units(levels, sample.scale)
            fill = (sample.sampled_ns, sample.last_id, side)
            for name, value in zip(("sampled_ns", "last_id", "side"), fill, strict=True):
                rows[name].append(np.full(prices.size, value, np.int64))
            rows["level"].append(np.arange(1, prices.size + 1))
            rows["price_e8"].append(prices)
            rows["quantity_e8"].append(quantities)
    arrays = {name: np.concatenate(parts) if parts else np.empty(0, np.int64) for name, parts in rows.items()}
    columns = {
        **{name: pa.array(array) for name, array in arrays.items()},
        "side": pa.array(np.array(["bid", "ask"])[arrays["side"]]),
        "symbol": pa.array([symbol] * arrays["side"].size, pa.string()),
        "level": pa.array(arrays["level"].astype(np.int32)),
    }
    return pa.Table.from_arrays(
        [columns[name] for name in LONG_SAMPLES.schema], schema=LONG_SAMPLES.arrow_schema
    )


def _in_units(levels: LevelArrays, scale: Scale) -> LevelArrays:
    """Convert ticks and lots to units of 1e-8.

    Raises:
        MalformedDataError: A tick or a lot is not a multiple of 1e-8.
    """
    tick, lot = scale.tick * _UNITS, scale.lot * _UNITS
    if tick != int(tick) or lot != int(lot):
        raise MalformedDataError(
            f"the tick {scale.tick} or the lot {scale.lot} is not a multiple of 1e-8",
            remedy="the file of samples can store multiples of 1e-8 only; run the command without --out",
        )
    return LevelArrays(levels.ticks * int(tick), levels.lots * int(lot))
