"""Blocks of a recording to integer columns: the kernel, and msgspec for the lines that it leaves.

Knows no file and no thread; whoever reads the file hands over blocks of whole lines.
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
    """Room for what a block holds; to be used again for the next one.

    Attributes:
        trades: `(11, capacity)`, rows `stream_kernel.T_…`.
        diffs: `(10, capacity)`, rows `D_…`.
        levels: Of the diffs: price and quantity in units of 1e-8, `(2, capacity)`.
        tags: Of the diffs: side (1 is ask) and places (decimals sent, of the price times 16 plus of the quantity), `(2, capacity)`.
        snapshots: As diffs.
        snapshot_levels: As levels.
        snapshot_tags: As tags.
        order_types: `X` of trades whose `X` is other than `MARKET`, by their line in the block (`T_LINE`); see `T_MARKET`.
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
        """Room for any block of so many bytes; memory is taken only as it is written to."""
        lines, levels = max_bytes // kernel.SHORTEST_LINE + 1, max_bytes // kernel.SHORTEST_LEVEL + 1
        rows = (np.empty((count, lines), np.int64) for count in (11, 10, 10))
        values, tags = (
            (np.empty((2, levels), np.int64) for _ in range(2)),
            (np.empty((2, levels), np.uint8) for _ in range(2)),
        )
        return cls(next(rows), next(rows), next(values), next(tags), next(rows), next(values), next(tags))


@dataclass(frozen=True)
class ParsedBlock:
    """What a block held: views of the columns, valid until these are used again.

    Attributes:
        columns: Cut to what was written.
        lines: Lines in the block.
        by_fallback: How many of them were not in the exchange's compact layout, or the first of their stream.
    """

    columns: Columns
    lines: int
    by_fallback: int


class StreamParser:
    """Parses blocks of one recording, one after the other; learns its streams as it goes.

    Attributes:
        streams: Names, in the order of their numbers (`T_STREAM`, `D_STREAM`).
        symbols: The symbol of each, in capitals.
    """

    def __init__(self, where: str) -> None:
        """Start with no stream.

        Args:
            where: The recording, for errors.
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
        """Lines so far, by stream."""
        return {name: int(count) for name, count in zip(self.streams, self._line_counts, strict=False)}

    def parse(self, text: Bytes, size: int, out: Columns, first_line: int = 1) -> ParsedBlock:
        """Parse a block.

        Args:
            text: Whole lines; `stream_kernel.PADDING` bytes of any value follow them.
            size: Length of the lines.
            out: As large as `Columns.of_size(size)`.
            first_line: Number of the first line in the recording, for errors.

        Raises:
            MalformedDataError: A line is not one of a recording, or is not what the exchange sends; file and line are named.
            ValueError: Padding or room is lacking, or the last line does not end.
        """
        if size < 0 or size + kernel.PADDING > text.size or (size and text[size - 1] != _LF):
            raise ValueError(
                f"a block of {size} bytes needs a line feed at its end and {kernel.PADDING} bytes more"
            )
        state, by_fallback = np.zeros(7, np.int64), 0
        out.order_types.clear()
        while True:
            status = kernel.parse_lines(
                text, size, (self._names, self._kinds, self._slots), state, self._line_counts,
                out.trades, out.diffs, (out.levels, out.tags), out.snapshots, (out.snapshot_levels, out.snapshot_tags),
            )  # fmt: skip
            if status == kernel.DONE:
                return ParsedBlock(_cut_columns(out, state), int(state[kernel.LINE]), by_fallback)
            if status == kernel.FULL:
                raise ValueError(f"the columns are too small for a block of {size} bytes")
            self._fall_back(text[:size], state, out, first_line)
            by_fallback += 1

    def _fall_back(self, text: Bytes, state: Ints, out: Columns, first_line: int) -> None:
        at, number = int(state[kernel.AT]), int(state[kernel.LINE])
        line = _line(text, at)
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
        known = self._numbers.get(stream)
        if known is not None:
            return known
        number = len(self.streams)
        if number >= _MAX_STREAM_COUNT:
            raise MalformedDataError(
                f"has more than {_MAX_STREAM_COUNT} streams",
                where=self._where,
                remedy="it is no recording of this project",
            )
        if number == len(self._kinds):
            self._grow()
        self._numbers[stream] = number
        self.streams.append(stream)
        self.symbols.append(symbol_of(stream))
        self._kinds[number] = kernel_kind(stream)
        name = stream.encode("utf-8", "surrogatepass")
        # The kernel changes the case of ASCII letters only; lines of other names stay with msgspec.
        if (
            0 < len(name) <= LONGEST_NAME
            and is_caseless(stream)
            and all(byte > _SPACE and byte not in _NOT_PLAIN for byte in name)
        ):
            self._names[number, : len(name)] = np.frombuffer(name, np.uint8)
            self._add_to_hash_table(number, len(name))
        return number

    def _grow(self) -> None:
        """Twice the room, and the hash table anew."""
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


def _line(text: Bytes, at: int) -> bytes:
    """The line that begins at `at`, looked for in ever longer pieces."""
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
