"""A recording in blocks of whole lines, read by `inflate.Source` in a thread of its own while the block before is worked on.

Memory is three blocks, whatever the length of the recording; blocks end at the same bytes in every run.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from capture_pipeline.binance.streams._kernel import PADDING
from capture_pipeline.errors import LakeError, MalformedDataError
from capture_pipeline.golden.readers.gzip_reader import FindingKind, Source

BLOCK_BYTES = 16 << 20
_AHEAD = 3


@dataclass
class Block:
    """Whole lines.

    Attributes:
        text: The lines, and padding.
        size: Bytes of the lines; the last is a line feed.
    """

    text: NDArray[np.uint8]
    size: int


class Blocks:
    """The blocks of one recording; iterate once.

    Attributes:
        sha256: Of the recording as it lies there; known when every block has been taken.
    """

    def __init__(self, path: Path, block_bytes: int = BLOCK_BYTES) -> None:
        """Open nothing yet.

        Args:
            path: A gzip of any number of members, or plain lines.
            block_bytes: Size of a block; no line may be longer.
        """
        self._path, self._size = path, block_bytes
        self._full: queue.Queue[Block | BaseException | None] = queue.Queue()
        self._free: queue.Queue[NDArray[np.uint8] | None] = queue.Queue()
        self._lines = 0
        self.sha256 = ""

    def __iter__(self) -> Iterator[Block]:
        """Yield blocks; one is valid until the next is asked for.

        Raises:
            MalformedDataError: The gzip is damaged or torn, or a line is longer than a block.
            LakeError: The file is not there.
        """
        for _ in range(_AHEAD):
            self._free.put(np.zeros(self._size + PADDING, np.uint8))
        thread = threading.Thread(target=self._inflate, name="inflate", daemon=True)
        thread.start()
        try:
            while (block := self._full.get()) is not None:
                if isinstance(block, BaseException):
                    raise block
                yield block
                self._free.put(block.text)
        finally:
            self._free.put(None)
            thread.join()

    def _inflate(self) -> None:
        try:
            self._read_all()
        except BaseException as error:  # noqa: BLE001 - it is raised where the blocks are taken
            self._full.put(error)
        else:
            self._full.put(None)

    def _read_all(self) -> None:
        if not self._path.is_file():
            raise LakeError("is not there", where=str(self._path), remedy="name a finished recording")
        carried = np.empty(0, np.uint8)
        with Source.opened(self._path) as source:
            pieces = _Pieces(iter(source))
            while (text := self._free.get()) is not None:
                text[: carried.size] = carried
                size = pieces.fill(text, carried.size, self._size)
                if size < self._size:
                    self._check(source)
                    self._last(text, size)
                    break
                carried = self._hand_over(text, size)
            self.sha256 = source.sha256

    def _check(self, source: Source) -> None:
        """Refuse a file that was not read whole.

        Raises:
            MalformedDataError: It is damaged or torn.
        """
        for finding in source.findings:
            if finding.kind is not FindingKind.EMPTY:
                what = f"the file is damaged after about {self._lines:,} lines: {finding}"
                raise MalformedDataError(
                    what, where=self._path.name, remedy="repair the recording, or record again"
                )

    def _hand_over(self, text: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        end = size - _last_line_feed(text, size)
        if end == 0:
            what = f"line {self._lines + 1} is longer than {self._size:,} bytes"
            raise MalformedDataError(
                what, where=self._path.name, remedy="it is no recording, or it is damaged there"
            )
        carried = text[end:size].copy()
        self._lines += int(np.count_nonzero(text[:end] == ord("\n")))
        self._full.put(Block(text, end))
        return carried

    def _last(self, text: NDArray[np.uint8], size: int) -> None:
        """The end of the file; a line feed that lacks at its very end is added, a torn line is then told by the parser."""
        if size and text[size - 1] != ord("\n"):
            text[size] = ord("\n")
            size += 1
        if size:
            self._full.put(Block(text, size))


class _Pieces:
    """Pieces of bytes, copied into blocks of another size."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._piece, self._at = pieces, b"", 0

    def fill(self, text: NDArray[np.uint8], start: int, end: int) -> int:
        """Fill `text[start:end]`; returns where the bytes end, which is `end` unless there are no more."""
        while start < end:
            if self._at == len(self._piece):
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._piece, self._at = piece, 0
                continue
            count = min(end - start, len(self._piece) - self._at)
            text[start : start + count] = np.frombuffer(self._piece, np.uint8, count, self._at)
            start, self._at = start + count, self._at + count
        return start


def _last_line_feed(text: NDArray[np.uint8], size: int) -> int:
    """How many bytes follow the last line feed; all of them where there is none."""
    reach = 1 << 16
    while True:
        start = max(0, size - reach)
        at = text[start:size].tobytes().rfind(b"\n")
        if at >= 0:
            return size - start - at - 1
        if start == 0:
            return size
        reach *= 16
