"""Decoders of the lines of a recording to integer columns: a reference and a compiled one.

Both have the same methods and give the same values. `ReferenceDecoder` decodes every line with msgspec.
`CompiledDecoder` decodes the usual layouts with a kernel, and the other lines with the reference. The caller
reads the file and passes blocks of whole lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from capture_pipeline.binance.streams import _kernel as kernel
from capture_pipeline.binance.streams._kernel_text import LONGEST_NAME, name_hash
from capture_pipeline.binance.streams._reference import ParsedLine, kernel_kind, read_line
from capture_pipeline.binance.streams.columns import (
    AT,
    DEPTH,
    DEPTHS,
    LEVELS,
    LINE,
    PADDING,
    SNAPSHOT,
    SNAPSHOT_LEVELS,
    SNAPSHOTS,
    TRADE,
    TRADES,
    Columns,
    Ints,
)
from capture_pipeline.binance.streams.messages import MARKET_ORDER
from capture_pipeline.binance.streams.names import symbol_of
from capture_pipeline.binance.symbols import is_caseless
from capture_pipeline.errors import MalformedDataError

_MAX_STREAM_COUNT = 8192
_LF, _SPACE = 10, 32
_NOT_PLAIN = b'"\\\x7f'


@dataclass(frozen=True)
class ParsedBlock:
    """Values of a block, as views of the columns; they are valid until the next block is decoded.

    Attributes:
        columns: Columns, cut to the written rows.
        lines: Number of lines in the block.
        by_fallback: Number of lines that msgspec decoded: for the compiled decoder lines in another layout,
            and the first line of each stream.
    """

    columns: Columns
    lines: int
    by_fallback: int


class ReferenceDecoder:
    """Decoder of the blocks of one recording; it adds each new stream to its list.

    Attributes:
        streams: Names in the order of their numbers (`T_STREAM`, `D_STREAM`).
        symbols: Symbol of each stream, in capitals.
    """

    def __init__(self, where: str) -> None:
        """Create a decoder without streams.

        Args:
            where: Name of the recording, for errors.
        """
        self._where = where
        self.streams: list[str] = []
        self.symbols: list[str] = []
        self._numbers: dict[str, int] = {}
        self._line_counts = np.zeros(64, np.int64)
        self._capacity = 0
        self._columns = Columns.of_size(0)

    @property
    def messages(self) -> dict[str, int]:
        """Number of lines that were decoded, by stream."""
        return {name: int(count) for name, count in zip(self.streams, self._line_counts, strict=False)}

    def decode(self, block: bytes, first_line: int = 1) -> ParsedBlock:
        """Decode a block.

        Args:
            block: Whole lines, followed by `PADDING` bytes of any value.
            first_line: Number of the first line in the recording, for errors.

        Raises:
            MalformedDataError: A line is not a line of a recording, or its message does not have the
                exchange's form.
            ValueError: The padding is too short, a column is too small, or the last line has no line feed.
        """
        size = len(block) - PADDING
        if size < 0 or (size and block[size - 1] != _LF):
            raise ValueError(f"a block of {size} bytes needs a line feed at its end and {PADDING} bytes more")
        if size > self._capacity:
            self._capacity = 1 << size.bit_length()
            self._columns = Columns.of_size(self._capacity)
        self._columns.order_types.clear()
        state = np.zeros(7, np.int64)
        by_fallback = self._decode_lines(block, size, state, first_line)
        return ParsedBlock(self._columns.cut(state), int(state[LINE]), by_fallback)

    def _decode_lines(self, block: bytes, size: int, state: Ints, first_line: int) -> int:
        """Decode all lines into the columns; return the number of lines that msgspec decoded."""
        while state[AT] < size:
            self._decode_line(block, state, first_line)
        return int(state[LINE])

    def _decode_line(self, block: bytes, state: Ints, first_line: int) -> None:
        """Decode the line at the position of the state with msgspec, and advance the state."""
        at, number, out = int(state[AT]), int(state[LINE]), self._columns
        line = block[at : block.index(b"\n", at) + 1]
        found = read_line(line, f"{self._where}, line {first_line + number}")
        stream = self._find_or_add(found.stream)
        if found.kind == TRADE:
            row = int(state[TRADES])
            is_market = found.order_type == MARKET_ORDER
            out.trades[:, row] = [*found.row, stream, number, is_market]
            if found.order_type is not None and not is_market:
                out.order_types[number] = found.order_type
            state[TRADES] += 1
        elif found.kind in {DEPTH, SNAPSHOT}:
            self._store_book(found, [stream, number], state)
        self._line_counts[stream] += 1
        state[LINE] += 1
        state[AT] = at + len(line)

    def _store_book(self, found: ParsedLine, ends: list[int], state: Ints) -> None:
        out, is_diff = self._columns, found.kind == DEPTH
        rows, values, tags = (
            (out.diffs, out.levels, out.tags)
            if is_diff
            else (out.snapshots, out.snapshot_levels, out.snapshot_tags)
        )
        row, level = (DEPTHS, LEVELS) if is_diff else (SNAPSHOTS, SNAPSHOT_LEVELS)
        first = int(state[level])
        asks, end = first + len(found.bids), first + len(found.bids) + len(found.asks)
        rows[:, state[row]] = [*found.row, first, asks, end, *ends]
        for at, (price, quantity, places) in enumerate(found.bids + found.asks, first):
            values[:, at] = price, quantity
            tags[:, at] = at >= asks, places
        state[row] += 1
        state[level] = end

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
        if number == len(self._line_counts):
            self._grow()
        self._numbers[stream] = number
        self.streams.append(stream)
        self.symbols.append(symbol_of(stream))
        return number

    def _grow(self) -> None:
        """Double the number of streams that the counts have room for."""
        self._line_counts = np.concatenate([self._line_counts, np.zeros_like(self._line_counts)])


class CompiledDecoder(ReferenceDecoder):
    """Decoder with the methods and the values of the reference, for lines in the layouts of the exchange."""

    def __init__(self, where: str) -> None:
        """Create a decoder without streams.

        Args:
            where: Name of the recording, for errors.
        """
        super().__init__(where)
        self._names = np.zeros((64, LONGEST_NAME + 1), np.uint8)
        self._kinds = np.zeros(64, np.int64)
        self._slots = np.full(256, -1, np.int64)

    def _decode_lines(self, block: bytes, size: int, state: Ints, first_line: int) -> int:
        text, out, by_fallback = np.frombuffer(block, np.uint8), self._columns, 0
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
                return by_fallback
            if status == kernel.FULL:
                raise ValueError(f"the columns are too small for a block of {size} bytes")
            self._decode_line(block, state, first_line)
            by_fallback += 1

    def _find_or_add(self, stream: str) -> int:
        is_new = stream not in self._numbers
        number = super()._find_or_add(stream)
        if is_new:
            self._kinds[number] = kernel_kind(stream)
            name = stream.encode("utf-8", "surrogatepass")
            # The kernel changes the case of ASCII letters only, so msgspec decodes the lines of streams with
            # other letters.
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
        super()._grow()
        more = len(self._kinds)
        self._names = np.concatenate([self._names, np.zeros((more, LONGEST_NAME + 1), np.uint8)])
        self._kinds = np.concatenate([self._kinds, np.zeros(more, np.int64)])
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
