"""Numba kernel that parses the lines of a recording to integers, in one pass over the bytes.

The kernel accepts only the layouts that the exchange writes: no spaces, a fixed order of fields, no further
field. It stops at a line in another layout. `decoders.py` then reads that line with msgspec, and the kernel
continues after it. Both produce the same values.

Fields of USD-M futures are optional, because recordings of several years are read: `T` after `E`, `X` of
trades, `pu`, and since the middle of 2026 `ps` (the pair) and `st` (1: USD-M). A line with an `X` other than
`MARKET`, or with a `ps` other than the symbol's pair, is decoded by msgspec.

No access leaves the arrays: a line starts before `end`, `PADDING` readable bytes follow `end`, no fixed part
of a line is longer than `PADDING`, each level starts before `end`, and outputs are written only below their
capacity.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from capture_pipeline.binance.streams._kernel_text import (
    event_us,
    find_stream,
    matches,
    read_common_decimal,
    read_decimal,
    read_integer,
    same_symbol,
    skip_data,
)
from capture_pipeline.binance.streams.columns import (
    AT,
    D_ASKS,
    D_BIDS,
    D_CAPTURE,
    D_END,
    D_EVENT,
    D_FIRST,
    D_LAST,
    D_LINE,
    D_PREVIOUS,
    D_STREAM,
    DEPTH,
    DEPTHS,
    LEVELS,
    LINE,
    PADDING,
    SKIP,
    SNAPSHOT_LEVELS,
    SNAPSHOTS,
    T_CAPTURE,
    T_EVENT,
    T_ID,
    T_LINE,
    T_MAKER,
    T_MARKET,
    T_PLACES,
    T_PRICE,
    T_QUANTITY,
    T_STREAM,
    T_TRADE,
    TRADE,
    TRADES,
)

DONE, OTHER_LAYOUT, FULL = range(3)
# Kernels take and return plain tuples, which they unpack into names at once.

_njit = numba.njit(cache=True, nogil=True)
_1 = np.uint64(1)
_QUOTE, _COMMA, _OPEN, _CLOSE = (np.uint8(byte) for byte in (34, 44, 91, 93))


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


_CAPTURE, _STREAM, _DATA = _bytes('{"capture_ns":'), _bytes(',"stream":"'), _bytes('","data":{"')
_TRADE_E, _DEPTH_E, _S = _bytes('e":"trade","E":'), _bytes('e":"depthUpdate","E":'), _bytes(',"s":"')
_FIELD_T, _FIELD_P, _FIELD_Q, _FIELD_TIME = (
    _bytes('","t":'),
    _bytes(',"p":"'),
    _bytes(',"q":"'),
    _bytes(',"T":'),
)
_MARKET, _MAKER, _BEST, _TRUE, _FALSE = map(_bytes, (',"X":"MARKET"', ',"m":', ',"M":', "true", "false"))
_SYMBOL, _AS_PAIR = False, True
"""Values of the argument `is_pair` of `same_symbol`."""
_PAIR, _FIRST, _LAST, _PREVIOUS, _B, _A = map(
    _bytes, ('","ps":"', '","U":', ',"u":', ',"pu":', ',"b":[', ',"a":[')
)
_SNAPSHOT, _EVENT, _BIDS, _ASKS, _TYPE, _END = map(
    _bytes, ('lastUpdateId":', ',"E":', ',"bids":[', ',"asks":[', ',"st":', "}}\n")
)


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def _read_levels(  # noqa: C901, PLR0917 - a kernel takes no keywords
    text: NDArray[np.uint8],
    at: np.uint64,
    end: np.uint64,
    side: int,
    row: int,
    values: NDArray[np.int64],
    tags: NDArray[np.uint8],
) -> tuple[int, np.uint64, int]:
    """Read levels up to the end of their list: (row after them, position after the bracket, status)."""
    capacity = min(values.shape[1], tags.shape[1])
    if text[at] == _CLOSE:
        return row, at + _1, DONE
    # Spot sends eight decimals, futures as many as the symbol has. After the first level with another number
    # of decimals, the general reader is used.
    is_common = True
    while at < end:
        if row >= capacity:
            return row, at, FULL
        price, quantity, here, after, good, more = np.int64(0), np.int64(0), at, at, False, False
        places = np.int64(0x88)
        if is_common:
            price, here, good = read_common_decimal(text, at + np.uint64(2))
            quantity, after, more = read_common_decimal(text, here + np.uint64(2))
            is_common = good & more
        if not is_common:
            price, price_places, here, good = read_decimal(text, at + np.uint64(2))
            quantity, quantity_places, after, more = read_decimal(text, here + np.uint64(2))
            places = price_places * 16 + quantity_places
        good &= (
            more
            & (text[at] == _OPEN)
            & (text[at + _1] == _QUOTE)
            & (text[here] == _COMMA)
            & (text[here + _1] == _QUOTE)
        )
        if not (good & (text[after] == _CLOSE)):
            break
        values[0, row], values[1, row] = price, quantity
        tags[0, row], tags[1, row] = side, places
        row += 1
        at = after + np.uint64(2)
        if text[after + _1] == _CLOSE:
            return row, at, DONE
        if text[after + _1] != _COMMA:
            break
    return row, at, OTHER_LAYOUT


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def _read_bool(text: NDArray[np.uint8], at: np.uint64) -> tuple[bool, np.uint64, bool]:
    """Read `true` or `false`: (value, position after it, whether the text is one of them)."""
    value = matches(text, at, _TRUE)
    return value, at + np.uint64(4 if value else 5), value | matches(text, at, _FALSE)


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def _read_line_end(text: NDArray[np.uint8], at: np.uint64) -> tuple[np.uint64, bool]:
    """Read the futures' optional `st` and the end of the line: (position after the line feed, success)."""
    good = True
    if matches(text, at, _TYPE):
        _, at, good = read_integer(text, at + np.uint64(_TYPE.size))
    return at + np.uint64(_END.size), good & matches(text, at, _END)


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def _read_trade(
    text: NDArray[np.uint8], at: np.uint64, name: NDArray[np.uint8], row: NDArray[np.int64]
) -> tuple[np.uint64, bool]:
    """Read a trade from its first field to the end of the line into a row: (position, success)."""
    good = matches(text, at, _TRADE_E)
    event, at, more = read_integer(text, at + np.uint64(_TRADE_E.size))
    good &= more
    early = matches(text, at, _FIELD_TIME)
    time = np.int64(0)
    if early:
        time, at, more = read_integer(text, at + np.uint64(_FIELD_TIME.size))
        good &= more
    good &= matches(text, at, _S)
    at, more = same_symbol(text, at + np.uint64(_S.size), name, _SYMBOL)
    if not (good & more & matches(text, at, _FIELD_T)):
        return at, False
    row[T_ID], at, good = read_integer(text, at + np.uint64(_FIELD_T.size))
    good &= matches(text, at, _FIELD_P)
    row[T_PRICE], price_places, at, more = read_decimal(text, at + np.uint64(_FIELD_P.size))
    good &= more & matches(text, at, _FIELD_Q)
    row[T_QUANTITY], quantity_places, at, more = read_decimal(text, at + np.uint64(_FIELD_Q.size))
    good &= more
    row[T_MARKET] = 0
    if not early:
        good &= matches(text, at, _FIELD_TIME)
        time, at, more = read_integer(text, at + np.uint64(_FIELD_TIME.size))
        good &= more
    elif matches(text, at, _MARKET):
        row[T_MARKET] = 1
        at += np.uint64(_MARKET.size)
    good &= matches(text, at, _MAKER)
    maker, at, more = _read_bool(text, at + np.uint64(_MAKER.size))
    good &= more
    if matches(text, at, _BEST):
        _, at, more = _read_bool(text, at + np.uint64(_BEST.size))
        good &= more
    row[T_EVENT], row[T_TRADE], row[T_MAKER] = event_us(event), event_us(time), maker
    row[T_PLACES] = price_places * 16 + quantity_places
    at, more = _read_line_end(text, at)
    return at, good & more


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def _read_diff_head(
    text: NDArray[np.uint8], at: np.uint64, name: NDArray[np.uint8], row: NDArray[np.int64]
) -> tuple[np.uint64, bool]:
    """Read a diff up to its first bid, with the futures' optional `T`, `ps` and `pu`: (position, success)."""
    good = matches(text, at, _DEPTH_E)
    event, at, more = read_integer(text, at + np.uint64(_DEPTH_E.size))
    good &= more
    if matches(text, at, _FIELD_TIME):
        _, at, more = read_integer(text, at + np.uint64(_FIELD_TIME.size))
        good &= more
    good &= matches(text, at, _S)
    at, more = same_symbol(text, at + np.uint64(_S.size), name, _SYMBOL)
    good &= more
    if matches(text, at, _PAIR):
        at, more = same_symbol(text, at + np.uint64(_PAIR.size), name, _AS_PAIR)
        good &= more
    if not (good & matches(text, at, _FIRST)):
        return at, False
    row[D_FIRST], at, good = read_integer(text, at + np.uint64(_FIRST.size))
    good &= matches(text, at, _LAST)
    row[D_LAST], at, more = read_integer(text, at + np.uint64(_LAST.size))
    good &= more
    row[D_PREVIOUS], row[D_EVENT] = -1, event_us(event)
    if matches(text, at, _PREVIOUS):
        row[D_PREVIOUS], at, more = read_integer(text, at + np.uint64(_PREVIOUS.size))
        good &= more
    return at + np.uint64(_B.size), good & matches(text, at, _B)


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def _read_book(  # noqa: PLR0917 - a kernel takes no keywords
    text: NDArray[np.uint8],
    at: np.uint64,
    end: np.uint64,
    asks: NDArray[np.uint8],
    row: NDArray[np.int64],
    values: NDArray[np.int64],
    tags: NDArray[np.uint8],
) -> tuple[np.uint64, int]:
    """Read both lists of levels, from the first bid to the end of the line: (position, status)."""
    level, at, status = _read_levels(text, at, end, 0, row[D_BIDS], values, tags)
    if status != DONE:
        return at, status
    if at >= end or not matches(text, at, asks):
        return at, OTHER_LAYOUT
    row[D_ASKS] = level
    row[D_END], at, status = _read_levels(text, at + np.uint64(asks.size), end, 1, level, values, tags)
    if status != DONE:
        return at, status
    if at >= end:
        return at, OTHER_LAYOUT
    at, good = _read_line_end(text, at)
    return at, DONE if good else OTHER_LAYOUT


@_njit  # type: ignore[untyped-decorator, unused-ignore]
def parse_lines(  # noqa: C901, PLR0911, PLR0912, PLR0915, PLR0917 - one loop avoids calls from Python
    text: NDArray[np.uint8],
    end: int,
    streams: tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]],
    state: NDArray[np.int64],
    seen: NDArray[np.int64],
    trades: NDArray[np.int64],
    diffs: NDArray[np.int64],
    levels: tuple[NDArray[np.int64], NDArray[np.uint8]],
    snapshots: NDArray[np.int64],
    snapshot_levels: tuple[NDArray[np.int64], NDArray[np.uint8]],
) -> int:
    """Parse whole lines from position `state[AT]`.

    Args:
        text: The bytes; `PADDING` more than `end`.
        end: Number of bytes to parse; the last one is a line feed.
        streams: Names `(n, LONGEST_NAME + 1)` ended by zeros, kinds `(n,)`, and slots of the hash table, a
            power of two.
        state: Input and output, 7 values: see `AT` and the indices next to it.
        seen: Input and output, `(n,)`: number of lines of each stream.
        trades: Output, `(11, capacity)`.
        diffs: Output, `(10, capacity)`.
        levels: Output: prices and quantities `(2, capacity)` in units of 1e-8; side (1 is ask) and places
            `(2, capacity)`.
        snapshots: Output like `diffs`, without event time and first id.
        snapshot_levels: Output like `levels`.

    Returns:
        `DONE`; `OTHER_LAYOUT`, with the state at a line in another layout; or `FULL`, with the state at a
        line that does not fit into an output.
    """
    names, kinds, slots = streams
    limit = np.uint64(end)
    if end + PADDING > text.size or state[AT] < 0:
        return FULL
    row = np.empty(11, np.int64)
    while np.uint64(state[AT]) < limit:
        at = np.uint64(state[AT])
        capture, here, good = read_integer(text, at + np.uint64(_CAPTURE.size))
        if not (good and matches(text, at, _CAPTURE) and matches(text, here, _STREAM)):
            return OTHER_LAYOUT
        stream, here = find_stream(text, here + np.uint64(_STREAM.size), names, slots)
        if stream < 0 or not matches(text, here, _DATA):
            return OTHER_LAYOUT
        here += np.uint64(_DATA.size)
        kind = kinds[stream]
        if kind == SKIP:
            here, good = skip_data(text, here, limit)
            if not good:
                return OTHER_LAYOUT
        elif kind == TRADE:
            number = state[TRADES]
            if number >= trades.shape[1]:
                return FULL
            here, good = _read_trade(text, here, names[stream], row)
            if not good or here > limit:
                return OTHER_LAYOUT
            row[T_CAPTURE], row[T_STREAM], row[T_LINE] = capture, stream, state[LINE]
            trades[:, number] = row
            state[TRADES] += 1
        elif kind == DEPTH:
            number = state[DEPTHS]
            if number >= diffs.shape[1]:
                return FULL
            here, good = _read_diff_head(text, here, names[stream], row)
            if not good:
                return OTHER_LAYOUT
            row[D_CAPTURE], row[D_STREAM], row[D_LINE], row[D_BIDS] = (
                capture,
                stream,
                state[LINE],
                state[LEVELS],
            )
            here, status = _read_book(text, here, limit, _A, row, levels[0], levels[1])
            if status != DONE or here > limit:
                return status if status != DONE else OTHER_LAYOUT
            diffs[:, number] = row[:10]
            state[DEPTHS] += 1
            state[LEVELS] = row[D_END]
        else:
            number = state[SNAPSHOTS]
            if number >= snapshots.shape[1]:
                return FULL
            good = matches(text, here, _SNAPSHOT)
            row[D_LAST], here, more = read_integer(text, here + np.uint64(_SNAPSHOT.size))
            good &= more
            for name in (_EVENT, _FIELD_TIME):
                if matches(text, here, name):
                    _, here, more = read_integer(text, here + np.uint64(name.size))
                    good &= more
            if not (good and matches(text, here, _BIDS)):
                return OTHER_LAYOUT
            row[D_EVENT], row[D_FIRST], row[D_PREVIOUS] = 0, 0, -1
            row[D_CAPTURE], row[D_STREAM], row[D_LINE], row[D_BIDS] = (
                capture,
                stream,
                state[LINE],
                state[SNAPSHOT_LEVELS],
            )
            here, status = _read_book(
                text, here + np.uint64(_BIDS.size), limit, _ASKS, row, snapshot_levels[0], snapshot_levels[1]
            )
            if status != DONE or here > limit:
                return status if status != DONE else OTHER_LAYOUT
            snapshots[:, number] = row[:10]
            state[SNAPSHOTS] += 1
            state[SNAPSHOT_LEVELS] = row[D_END]
        seen[stream] += 1
        state[LINE] += 1
        state[AT] = np.int64(here)
    return DONE
