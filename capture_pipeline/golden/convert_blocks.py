"""A recording in blocks of whole lines, inflated by isal in a thread of its own while the block before is worked on.

Memory is three blocks, whatever the length of the recording; blocks end at the same bytes in every run.
"""

from __future__ import annotations

import hashlib
import io
import queue
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from capture_pipeline.binance.stream_kernel import PADDING
from capture_pipeline.errors import LakeError, MalformedData

BLOCK_BYTES = 16 << 20
_AHEAD = 3
_BROKEN: Any = (EOFError, zlib.error, isal_zlib.error, igzip.BadGzipFile)


@dataclass
class Block:
    """Whole lines.

    Attributes:
        text: The lines, and padding.
        size: Bytes of the lines; the last is a line feed.
    """

    text: NDArray[np.uint8]
    size: int


class _Hashing(io.RawIOBase):
    """A file whose bytes are hashed as they are read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401 - a buffer of any kind
        count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self.digest.update(memoryview(buffer)[:count])
        return int(count)


class Blocks:
    """The blocks of one recording; iterate once.

    Attributes:
        sha256: Of the recording as it lies there; known when every block has been taken.
    """

    def __init__(self, path: Path, block_bytes: int = BLOCK_BYTES) -> None:
        """Open nothing yet.

        Args:
            path: A gzip of any number of members.
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
            MalformedData: The gzip is damaged or torn, or a line is longer than a block.
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
        except FileNotFoundError:
            self._full.put(LakeError("is not there", where=str(self._path), remedy="name a finished recording"))
        except _BROKEN as error:
            what = f"the gzip is damaged after about {self._lines:,} lines: {error}"
            self._full.put(MalformedData(what, where=self._path.name, remedy="repair the recording, or record again"))
        except BaseException as error:  # noqa: BLE001 - it is raised where the blocks are taken
            self._full.put(error)
        else:
            self._full.put(None)

    def _read_all(self) -> None:
        carried = np.empty(0, np.uint8)
        with self._path.open("rb", buffering=0) as raw:
            hashing = _Hashing(raw)
            with igzip.IGzipFile(fileobj=io.BufferedReader(hashing, 1 << 20)) as file:  # type: ignore[no-untyped-call, unused-ignore]
                while (text := self._free.get()) is not None:
                    text[: carried.size] = carried
                    size = _fill(file, text, carried.size, self._size)
                    if size < self._size:
                        self._last(text, size)
                        break
                    carried = self._hand_over(text, size)
            self.sha256 = hashing.digest.hexdigest()

    def _hand_over(self, text: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        end = size - _last_line_feed(text, size)
        if end == 0:
            what = f"line {self._lines + 1} is longer than {self._size:,} bytes"
            raise MalformedData(what, where=self._path.name, remedy="it is no recording, or it is damaged there")
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


def _fill(file: Any, text: NDArray[np.uint8], start: int, end: int) -> int:  # noqa: ANN401 - isal has no types
    view = text.data
    while start < end:
        count = file.readinto(view[start:end])
        if not count:
            break
        start += count
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
