"""Parser of blocks of a recording to integer columns.

The kernel parses the usual layouts, and msgspec parses the other lines. The caller reads the file and passes
blocks of whole lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.binance.streams import _kernel as kernel
from capture_pipeline.binance.streams._fallback import ParsedLine, kernel_kind, read_line
from capture_pipeline.binance.streams._kernel_text import LONGEST_NAME, name_hash
from capture_pipeline.binance.streams.messages import MARKET_ORDER
from capture_pipeline.binance.streams.names import symbol_of
from capture_pipeline.binance.symbols import is_caseless
from capture_pipeline.errors import MalformedDataError

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
_MAX_STREAM_COUNT = 8192
_LF, _SPACE = 10, 32
_NOT_PLAIN = b'"\\\x7f'


@dataclass(frozen=True)
class Columns:
    """Arrays for the values of a block; they are used again for the next block.

    Attributes:
        trades: Shape `(11, capacity)`, with the rows `_kernel.T_…`.
        diffs: Shape `(10, capacity)`, with the rows `_kernel.D_…`.
        levels: Price and quantity of the diffs' levels in units of 1e-8, shape `(2, capacity)`.
        tags: Side (1 is ask) and places of the diffs' levels, shape `(2, capacity)`. Places are the number of
            decimals of the price times 16, plus the number of decimals of the quantity.
        snapshots: Like `diffs`.
        snapshot_levels: Like `levels`.
        snapshot_tags: Like `tags`.
        order_types: `X` of trades with an `X` other than `MARKET`, by their line in the block (`T_LINE`).
    """

    trades: Ints
    diffs: Ints
    levels: Ints
    tags: Bytes
    snapshots: Ints
    snapshot_levels: Ints
    snapshot_tags: Bytes
    order_types: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of_size(cls, max_bytes: int) -> Columns:
        """Allocate arrays for any block of at most `max_bytes`; only written pages occupy memory."""
        lines, levels = max_bytes // kernel.SHORTEST_LINE + 1, max_bytes // kernel.SHORTEST_LEVEL + 1
        rows = (np.empty((count, lines), np.int64) for count in (11, 10, 10))
        values, tags = (
            (np.empty((2, levels), np.int64) for _ in range(2)),
            (np.empty((2, levels), np.uint8) for _ in range(2)),
        )
        return cls(next(rows), next(rows), next(values), next(tags), next(rows), next(values), next(tags))


@dataclass(frozen=True)
class ParsedBlock:
    """Values of a block, as views of the columns; they are valid until the columns are used again.

    Attributes:
        columns: Columns, cut to the written rows.
        lines: Number of lines in the block.
        by_fallback: Number of lines that msgspec parsed: lines in another layout, and the first line of each
            stream.
    """

    columns: Columns
    lines: int
    by_fallback: int


class StreamParser:
    """Parser of the blocks of one recording; it adds each new stream to its list.

    Attributes:
        streams: Names in the order of their numbers (`T_STREAM`, `D_STREAM`).
        symbols: Symbol of each stream, in capitals.
    """

    def __init__(self, where: str) -> None:
        """Create a parser without streams.

        Args:
            where: Name of the recording, for errors.
        """
        self._where = where
        self.streams: list[str] = []
        self.symbols: list[str] = []
        self._numbers: dict[str, int] = {}
        self._names = np.zeros((64, LONGEST_NAME + 1), np.uint8)
        self._kinds = np.zeros(64, np.int64)
        self._slots = np.full(256, -1, np.int64)
        self._line_counts = np.zeros(64, np.int64)

    @property
    def messages(self) -> dict[str, int]:
        """Number of lines that were parsed, by stream."""
        return {name: int(count) for name, count in zip(self.streams, self._line_counts, strict=False)}

    def parse(self, text: Bytes, size: int, out: Columns, first_line: int = 1) -> ParsedBlock:
        """Parse a block.

        Args:
            text: Whole lines, followed by `_kernel.PADDING` bytes of any value.
            size: Length of the lines in bytes.
            out: Columns, at least as large as `Columns.of_size(size)`.
            first_line: Number of the first line in the recording, for errors.

        Raises:
            MalformedDataError: A line is not a line of a recording, or its message does not have the
                exchange's form.
            ValueError: The padding is too short, a column is too small, or the last line has no line feed.
        """
        if size < 0 or size + kernel.PADDING > text.size or (size and text[size - 1] != _LF):
            raise ValueError(
                f"a block of {size} bytes needs a line feed at its end and {kernel.PADDING} bytes more"
            )
        state, by_fallback = np.zeros(7, np.int64), 0
        out.order_types.clear()
        while True:
            status = kernel.parse_lines(
                text,
                size,
                (self._names, self._kinds, self._slots),
                state,
                self._line_counts,
                out.trades,
                out.diffs,
                (out.levels, out.tags),
                out.snapshots,
                (out.snapshot_levels, out.snapshot_tags),
            )
            if status == kernel.DONE:
                return ParsedBlock(_cut_columns(out, state), int(state[kernel.LINE]), by_fallback)
            if status == kernel.FULL:
                raise ValueError(f"the columns are too small for a block of {size} bytes")
            self._fall_back(text[:size], state, out, first_line)
            by_fallback += 1

    def _fall_back(self, text: Bytes, state: Ints, out: Columns, first_line: int) -> None:
        at, number = int(state[kernel.AT]), int(state[kernel.LINE])
        line = _find_line(text, at)
        found = read_line(line, f"{self._where}, line {first_line + number}")
        stream = self._find_or_add(found.stream)
        if found.kind == kernel.TRADE:
            row = int(state[kernel.TRADES])
            is_market = found.order_type == MARKET_ORDER
            out.trades[:, row] = [*found.row, stream, number, is_market]
            if found.order_type is not None and not is_market:
                out.order_types[number] = found.order_type
            state[kernel.TRADES] += 1
        elif found.kind == kernel.DEPTH:
            _store_book(
                found,
                [stream, number],
                out.diffs,
                int(state[kernel.DEPTHS]),
                (out.levels, out.tags),
                int(state[kernel.LEVELS]),
            )
            state[kernel.DEPTHS] += 1
            state[kernel.LEVELS] += len(found.bids) + len(found.asks)
        elif found.kind == kernel.SNAPSHOT:
            levels = (out.snapshot_levels, out.snapshot_tags)
            _store_book(
                found,
                [stream, number],
                out.snapshots,
                int(state[kernel.SNAPSHOTS]),
                levels,
                int(state[kernel.SNAPSHOT_LEVELS]),
            )
            state[kernel.SNAPSHOTS] += 1
            state[kernel.SNAPSHOT_LEVELS] += len(found.bids) + len(found.asks)
        self._line_counts[stream] += 1
        state[kernel.LINE] += 1
        state[kernel.AT] = at + len(line)

    def _find_or_add(self, stream: str) -> int:
        number = self._numbers.get(stream)
        if number is not None:
            return number
        number = len(self.streams)
        if number >= _MAX_STREAM_COUNT:
            raise MalformedDataError(
                f"has more than {_MAX_STREAM_COUNT} streams",
                where=self._where,
                remedy="check that the file is a recording of this project",
            )
        if number == len(self._kinds):
            self._grow()
        self._numbers[stream] = number
        self.streams.append(stream)
        self.symbols.append(symbol_of(stream))
        self._kinds[number] = kernel_kind(stream)
        name = stream.encode("utf-8", "surrogatepass")
        # The kernel changes the case of ASCII letters only, so msgspec parses the lines of streams with other
        # letters.
        if (
            0 < len(name) <= LONGEST_NAME
            and is_caseless(stream)
            and all(byte > _SPACE and byte not in _NOT_PLAIN for byte in name)
        ):
            self._names[number, : len(name)] = np.frombuffer(name, np.uint8)
            self._add_to_hash_table(number, len(name))
        return number

    def _grow(self) -> None:
        """Double the capacity and rebuild the hash table."""
        more = len(self._kinds)
        self._names = np.concatenate([self._names, np.zeros((more, LONGEST_NAME + 1), np.uint8)])
        self._kinds, self._line_counts = (
            np.concatenate([old, np.zeros(more, np.int64)]) for old in (self._kinds, self._line_counts)
        )
        self._slots = np.full(8 * more, -1, np.int64)
        for number in range(len(self.streams)):
            if self._names[number, 0]:
                self._add_to_hash_table(number, int(np.count_nonzero(self._names[number])))

    def _add_to_hash_table(self, number: int, length: int) -> None:
        quoted = np.append(self._names[number, :length], np.uint8(ord('"')))
        slot = int(name_hash(quoted, 0)[0]) % len(self._slots)
        while self._slots[slot] >= 0:
            slot = (slot + 1) % len(self._slots)
        self._slots[slot] = number


def _find_line(text: Bytes, at: int) -> bytes:
    """Return the line at a position; its end is searched in pieces of increasing length."""
    reach = 4096
    while True:
        piece = text[at : at + reach].tobytes()
        end = piece.find(b"\n")
        if end >= 0:
            return piece[: end + 1]
        reach *= 8


def _store_book(  # noqa: PLR0917 - the kernel's outputs in its order
    found: ParsedLine, ends: list[int], rows: Ints, row: int, levels: tuple[Ints, Bytes], first: int
) -> None:
    asks, end = first + len(found.bids), first + len(found.bids) + len(found.asks)
    rows[:, row] = [*found.row, first, asks, end, *ends]
    for at, (price, quantity, places) in enumerate(found.bids + found.asks, first):
        levels[0][:, at] = price, quantity
        levels[1][:, at] = at >= asks, places


def _cut_columns(out: Columns, state: Ints) -> Columns:
    trades, diffs, levels, snapshots, snapshot_levels = (int(count) for count in state[kernel.TRADES :])
    return Columns(
        out.trades[:, :trades],
        out.diffs[:, :diffs],
        out.levels[:, :levels],
        out.tags[:, :levels],
        out.snapshots[:, :snapshots],
        out.snapshot_levels[:, :snapshot_levels],
        out.snapshot_tags[:, :snapshot_levels],
        out.order_types,
    )
