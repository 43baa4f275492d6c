"""Conversion of parsed columns to Arrow tables of one symbol and one hour of capture, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from capture_pipeline.binance.streams import columns as layout
from capture_pipeline.binance.streams.columns import Columns
from capture_pipeline.binance.streams.messages import MARKET_ORDER
from capture_pipeline.golden.tables import HOUR_NS
from capture_pipeline.tables.golden.columns import NO_LEVEL
from capture_pipeline.tables.golden.depth import DEPTH
from capture_pipeline.tables.golden.snapshots import SNAPSHOTS
from capture_pipeline.tables.golden.trades import TRADES
from capture_pipeline.tables.table import Table

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class FileKey(NamedTuple):
    """File of a table: symbol, and hours since 1970."""

    table: Table
    symbol: str
    hour: int


class HourRows(NamedTuple):
    """Rows of one file in a block."""

    key: FileKey
    rows: pa.Table


class _Group(NamedTuple):
    """Columns of the messages of one symbol and hour."""

    symbol: str
    hour: int
    rows: Ints


class _Levels(NamedTuple):
    """Prices and quantities of levels, and their sides and places."""

    values: Ints
    tags: Bytes


def build_tables(columns: Columns, symbols: Sequence[str], first_line: int) -> Iterator[HourRows]:
    """Build the tables of one block by symbol and hour, with rows in the order of the recording.

    Args:
        columns: Result of the decoder.
        symbols: Symbols by number of the stream.
        first_line: Number of the first line of the block.
    """
    for symbol, hour, rows in _group_rows(columns.trades, layout.T_CAPTURE, layout.T_STREAM, symbols):
        yield HourRows(
            FileKey(TRADES, symbol, hour), _build_trades_table(rows, first_line, columns.order_types)
        )
    for table, rows_of, levels, tags in (
        (DEPTH, columns.diffs, columns.levels, columns.tags),
        (SNAPSHOTS, columns.snapshots, columns.snapshot_levels, columns.snapshot_tags),
    ):
        for symbol, hour, rows in _group_rows(rows_of, layout.D_CAPTURE, layout.D_STREAM, symbols):
            yield HourRows(
                FileKey(table, symbol, hour), _build_book_table(table, rows, levels, tags, first_line)
            )


def _group_rows(rows: Ints, capture: int, stream: int, symbols: Sequence[str]) -> Iterator[_Group]:
    if not rows.shape[1]:
        return
    hours = rows[capture] // HOUR_NS
    names = sorted(set(symbols))
    number = np.array([names.index(symbol) for symbol in symbols])[rows[stream]]
    for hour in np.unique(hours).tolist():
        for of_symbol in np.unique(number[hours == hour]).tolist():
            mask = (hours == hour) & (number == of_symbol)
            yield _Group(names[of_symbol], hour, rows if mask.all() else rows[:, mask])


def _build_trades_table(rows: Ints, first_line: int, order_types: Mapping[int, str]) -> pa.Table:
    places = rows[layout.T_PLACES]
    return pa.Table.from_arrays(
        [
            pa.array(rows[layout.T_LINE] + first_line),
            *(pa.array(rows[row]) for row in range(layout.T_CAPTURE, layout.T_QUANTITY + 1)),
            pa.array((places >> 4).astype(np.int8)),
            pa.array((places & 15).astype(np.int8)),
            pa.array(rows[layout.T_MAKER] == 1),
            _order_types(rows, order_types),
        ],
        schema=TRADES.arrow_schema,
    )


def _order_types(rows: Ints, order_types: Mapping[int, str]) -> pa.StringArray:
    is_market = rows[layout.T_MARKET] == 1
    if not order_types:
        return pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(is_market), np.int8), mask=~is_market), [MARKET_ORDER]
        ).cast(pa.string())
    kinds = [
        MARKET_ORDER if market else order_types.get(line)
        for line, market in zip(rows[layout.T_LINE].tolist(), is_market, strict=True)
    ]
    return pa.array(kinds, pa.string())


def _build_book_table(table: Table, rows: Ints, levels: Ints, tags: Bytes, first_line: int) -> pa.Table:
    counts = rows[layout.D_END] - rows[layout.D_BIDS]
    values, kinds = _select_levels(rows, counts, levels, tags)
    repeats = np.maximum(counts, 1)
    heads = [rows[layout.D_LINE] + first_line, rows[layout.D_CAPTURE], rows[layout.D_LAST]]
    if table is DEPTH:
        heads[2:2] = [rows[layout.D_EVENT], rows[layout.D_FIRST]]
        heads.append(rows[layout.D_PREVIOUS])
    side, places = kinds[0].view(np.int8), kinds[1]
    return pa.Table.from_arrays(
        [
            *(pa.array(np.repeat(head, repeats)) for head in heads),
            pa.array(side),
            pa.array(values[0]),
            pa.array(values[1]),
            pa.array((places >> 4).view(np.int8)),
            pa.array((places & 15).view(np.int8)),
        ],
        schema=table.arrow_schema,
    )


def _select_levels(rows: Ints, counts: Ints, levels: Ints, tags: Bytes) -> _Levels:
    """Return the levels of the messages. A message without levels has one row with side `NO_LEVEL`."""
    first, last = int(rows[layout.D_BIDS, 0]), int(rows[layout.D_END, -1])
    if int(counts.sum()) == last - first:
        values, kinds = levels[:, first:last], tags[:, first:last]
    else:
        starts = np.cumsum(counts) - counts
        at = np.arange(int(counts.sum())) - np.repeat(starts - rows[layout.D_BIDS], counts)
        values, kinds = levels[:, at], tags[:, at]
    empty = np.flatnonzero(counts == 0)
    if empty.size:
        at = (np.cumsum(counts) - counts)[empty]
        values = np.insert(values, at, 0, axis=1)
        kinds = np.insert(kinds, at, np.array([[NO_LEVEL % 256], [0]], np.uint8), axis=1)
    return _Levels(values, kinds)
