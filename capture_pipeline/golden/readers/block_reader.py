"""Reader of recordings in blocks of whole lines, for the compiled parser. A thread inflates the file.

Three blocks are in memory, for recordings of any length. Blocks end at the same bytes in every run.
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
    """A block of whole lines.

    Attributes:
        text: The lines, followed by padding.
        size: Bytes of the lines; the last byte is a line feed.
    """

    text: NDArray[np.uint8]
    size: int


class Blocks:
    """Blocks of one recording. Iterate only once.

    Attributes:
        sha256: Digest of the file; empty before the last block.
    """

    def __init__(self, path: Path, block_bytes: int = BLOCK_BYTES) -> None:
        """Store the path. The file is opened by the iteration.

        Args:
            path: A gzip file of any number of members, or a file of plain lines.
            block_bytes: Size of a block; no line may be longer.
        """
        self._path, self._size = path, block_bytes
        self._full: queue.Queue[Block | BaseException | None] = queue.Queue()
        self._free: queue.Queue[NDArray[np.uint8] | None] = queue.Queue()
        self._lines = 0
        self.sha256 = ""

    def __iter__(self) -> Iterator[Block]:
        """Iterate over the blocks. A block is valid until the next one is requested.

        Raises:
            MalformedDataError: The gzip is damaged or torn, or a line is longer than a block.
            LakeError: The file does not exist.
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
        except BaseException as error:  # noqa: BLE001 - `__iter__` raises it
            self._full.put(error)
        else:
            self._full.put(None)

    def _read_all(self) -> None:
        if not self._path.is_file():
            raise LakeError("does not exist", where=str(self._path), remedy="name a finished recording")
        carried = np.empty(0, np.uint8)
        with Source.open(self._path) as source:
            pieces = _PieceCopier(iter(source))
            while (text := self._free.get()) is not None:
                text[: carried.size] = carried
                size = pieces.fill(text, carried.size, self._size)
                if size < self._size:
                    self._raise_findings(source)
                    self._emit_last(text, size)
                    break
                carried = self._emit(text, size)
            self.sha256 = source.sha256

    def _raise_findings(self, source: Source) -> None:
        """Check that the whole file was read.

        Raises:
            MalformedDataError: The file is damaged or torn.
        """
        for finding in source.findings:
            if finding.kind is not FindingKind.EMPTY:
                what = f"the file is damaged after about {self._lines:,} lines: {finding}"
                raise MalformedDataError(
                    what, where=self._path.name, remedy="repair the recording, or record again"
                )

    def _emit(self, text: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        end = size - _count_after_line_feed(text, size)
        if end == 0:
            what = f"line {self._lines + 1} is longer than {self._size:,} bytes"
            raise MalformedDataError(
                what, where=self._path.name, remedy="the file is not a recording, or is damaged there"
            )
        carried = text[end:size].copy()
        self._lines += int(np.count_nonzero(text[:end] == ord("\n")))
        self._full.put(Block(text, end))
        return carried

    def _emit_last(self, text: NDArray[np.uint8], size: int) -> None:
        """Emit the end of the file; add a missing line feed. The parser reports a torn last line."""
        if size and text[size - 1] != ord("\n"):
            text[size] = ord("\n")
            size += 1
        if size:
            self._full.put(Block(text, size))


class _PieceCopier:
    """Copies pieces of bytes into blocks of another size."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._piece, self._at = pieces, b"", 0

    def fill(self, text: NDArray[np.uint8], start: int, end: int) -> int:
        """Fill `text[start:end]`. Returns the end of the bytes: `end`, or less at the end of the file."""
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


def _count_after_line_feed(text: NDArray[np.uint8], size: int) -> int:
    """Return the number of bytes after the last line feed; `size` if there is none."""
    reach = 1 << 16
    while True:
        start = max(0, size - reach)
        at = text[start:size].tobytes().rfind(b"\n")
        if at >= 0:
            return size - start - at - 1
        if start == 0:
            return size
        reach *= 16
