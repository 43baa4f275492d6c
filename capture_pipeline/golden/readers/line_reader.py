"""Reader of recordings in blocks of whole lines, with bounded memory. A thread inflates the file.

A recording consists of gzip members of whole lines (`.jsonl.gz`; `.jsonl.gz.part` while it grows) or of plain
lines. The CRC of each member is checked. Damage left by a crash (a torn member, a tail of zeros, a torn last
line) is not an error but a finding with its position; all data before it are read. A last line without a line
feed is accepted if it is complete. The SHA-256 of the file is computed during the reading.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.readers.gzip_reader import Finding, FindingKind, Source
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.sessions.line_format import Line, decode_line

BLOCK_BYTES = 2 << 20
BLOCKS_AHEAD = 3
MAX_LINE_BYTES = 32 << 20
_END_WAIT_S = 0.2


@dataclass(slots=True)
class Recording:
    """Blocks of one recording. Iterate only once, inside `with`.

    Attributes:
        path: The file.
        block_bytes: Approximate size of a block.
        start: First byte of the file to read; a gzip member must begin there.
        end: Byte at which to stop; a member must end there. None to read to the end.
        findings: Damage of the file; complete after the last block.
        members: Number of gzip members that were read without damage; set after the last block.
        size: Bytes of the file; set after the last block.
        sha256: Digest of the file, 64 hex digits; set after the last block.
        open_line: Torn line at the end; it is also a finding.
        salvage: True to read also the bytes of a damaged gzip member before its damage; see `Source`.
    """

    path: Path
    block_bytes: int = BLOCK_BYTES
    start: int = 0
    end: int | None = None
    findings: list[Finding] = field(default_factory=list)
    members: int = 0
    size: int = 0
    sha256: str = ""
    open_line: bytes = b""
    salvage: bool = False
    _queue: queue.Queue[bytes | BaseException | None] = field(
        default_factory=lambda: queue.Queue(BLOCKS_AHEAD)
    )
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start the thread that reads ahead.

        Raises:
            MalformedDataError: The file cannot be opened.
        """
        source = Source.open(self.path, self.start, self.end, salvage=self.salvage)
        self._thread = threading.Thread(
            target=self._read_ahead, args=(source,), name=f"inflate {self.path.name}", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the blocks; each block consists of whole lines with their line feeds.

        Raises:
            MalformedDataError: A line is longer than `MAX_LINE_BYTES`, or the file cannot be read.
        """
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _read_ahead(self, source: Source) -> None:
        """Put blocks of whole lines into the queue, and an error or None as the last item."""
        last: BaseException | None = None
        try:
            with source:
                rest = self._emit_last(self._cut(source))
            self.members, self.size, self.sha256 = source.members, source.position, source.sha256
            self.findings.extend(source.findings)
            self.open_line = rest
            if rest:
                what = f"the last line has no end: {len(rest):,} bytes, {rest[:60]!r}"
                self.findings.append(Finding(FindingKind.OPEN_LINE, None, what))
        except (MalformedDataError, OSError) as error:
            last = (
                error
                if isinstance(error, MalformedDataError)
                else MalformedDataError(f"cannot be read: {error}", where=str(self.path))
            )
        except BaseException as error:  # noqa: BLE001 - `__iter__` raises it
            last = error
        self._put(last)

    def _cut(self, source: Source) -> bytes:
        parts: list[bytes] = []
        size = 0
        for piece in source:
            if self._stop.is_set():
                return b""
            parts.append(piece)
            size += len(piece)
            if size < self.block_bytes or (size < 2 * self.block_bytes and not piece.endswith(b"\n")):
                continue  # at the end of a member of whole lines a cut copies nothing
            block, rest = _whole_lines(b"".join(parts))
            if len(rest) > MAX_LINE_BYTES:
                raise MalformedDataError(
                    f"contains a line of more than {MAX_LINE_BYTES:,} bytes",
                    where=str(self.path),
                    remedy="the file is not a recording",
                )
            if block:
                self._put(block)
            parts, size = [rest], len(rest)
        block, rest = _whole_lines(b"".join(parts))
        if block:
            self._put(block)
        return rest

    def _emit_last(self, rest: bytes) -> bytes:
        """Emit the last line if only its line feed is missing. Otherwise return the torn line.

        A line that can be decoded is complete, because its last byte closes the JSON object.
        """
        try:
            decode_line(rest)
        except PARSE_ERRORS:
            return rest
        self._put(rest.rstrip(b"\r") + b"\n")
        return b""

    def _put(self, item: bytes | BaseException | None) -> None:
        """Put an item into the queue, unless the reader has stopped."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_END_WAIT_S)
            except queue.Full:
                continue
            return


def read_lines(path: Path, *, tolerant: bool = False) -> Iterator[tuple[int, Line]]:
    """Iterate over the lines of a recording with their numbers.

    Args:
        path: The recording.
        tolerant: True to ignore damage of the file, for callers that reported it already.

    Raises:
        MalformedDataError: A line is not in the line form, or the file is damaged. Earlier lines were
            yielded.
    """
    number = 0
    with Recording(path) as recording:
        for block in recording:
            for raw in block.split(b"\n")[:-1]:
                number += 1
                try:
                    line = decode_line(raw)
                except PARSE_ERRORS as error:
                    what = f"line {number} is not a line of a recording: {explain(error)}"
                    raise MalformedDataError(
                        what, where=str(path), remedy="run `capture session validate` on it"
                    ) from None
                yield number, line
    if recording.findings and not tolerant:
        raise MalformedDataError(
            str(recording.findings[0]),
            where=str(path),
            remedy="run `capture session validate` on it; earlier lines were read",
        )


def _whole_lines(data: bytes) -> tuple[bytes, bytes]:
    end = data.rfind(b"\n") + 1
    return data[:end], data[end:]
