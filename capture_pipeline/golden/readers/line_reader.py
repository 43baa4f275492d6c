"""Recordings read in blocks of whole lines, in bounded memory, with a thread that inflates ahead.

A recording is gzip members of whole lines (`.jsonl.gz`, `.part` behind it while it grows) or plain lines. Each member's CRC is checked.
What a crash leaves (a torn member, a tail of zeros, a torn last line) is no error here but a finding with its place: what stands before it
is read. A last line that is whole and only lacks its line feed is a line like any other. The file's SHA-256 is computed on the way.
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
MOST_LINE_BYTES = 32 << 20
_END_WAIT_S = 0.2


@dataclass(slots=True)
class Recording:
    """One reading of one file; iterate over it once, inside `with`. Findings, size and digest are complete after the last block.

    Attributes:
        path: The file.
        block_bytes: About how much a block holds.
        start: Byte of the file at which to begin, that of a member.
        end: Byte at which to stop, that of another one; None reads to the end.
        findings: What is wrong with the file as a file.
        members: Gzip members read whole.
        size: Bytes of the file.
        sha256: Its digest, 64 hex digits.
        open_line: A torn line behind the last line end; a finding tells of it too.
        salvage: Read what a damaged gzip member gives before its damage too; see `Source`.
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
        """Start to read ahead.

        Raises:
            MalformedDataError: The file cannot be opened.
        """
        source = Source.opened(self.path, self.start, self.end, salvage=self.salvage)
        self._thread = threading.Thread(
            target=self._read_ahead, args=(source,), name=f"inflate {self.path.name}", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread, wherever reading stopped."""
        self._stop.set()
        if self._thread:
            self._thread.join()

    def __iter__(self) -> Iterator[bytes]:
        """The blocks in order, each of whole lines with their ends.

        Raises:
            MalformedDataError: A line exceeds what any message can be, or the disk failed.
        """
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def _read_ahead(self, source: Source) -> None:
        """The thread: cut what inflates into blocks of whole lines; an error travels to the reader as the last item."""
        last: BaseException | None = None
        try:
            with source:
                rest = self._take_last(self._cut(source))
            self.members, self.size, self.sha256 = source.members, source.taken, source.sha256
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
        except BaseException as error:  # noqa: BLE001 - a bug in the thread has to surface where its blocks are waited for
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
                continue  # a member of whole lines is a good place to cut: nothing is copied there
            block, rest = _whole_lines(b"".join(parts))
            if len(rest) > MOST_LINE_BYTES:
                raise MalformedDataError(
                    "holds a line longer than any message", where=str(self.path), remedy="is it a recording?"
                )
            if block:
                self._put(block)
            parts, size = [rest], len(rest)
        block, rest = _whole_lines(b"".join(parts))
        if block:
            self._put(block)
        return rest

    def _take_last(self, rest: bytes) -> bytes:
        """Hand over a last line that only lacks its line feed; return what is torn.

        No beginning of a line is a line itself, for its last byte closes the object: what can be decoded is whole.
        """
        try:
            decode_line(rest)
        except PARSE_ERRORS:
            return rest
        self._put(rest.rstrip(b"\r") + b"\n")
        return b""

    def _put(self, item: bytes | BaseException | None) -> None:
        """Wait for room, but not for a reader that is gone."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_END_WAIT_S)
            except queue.Full:
                continue
            return


def read_lines(path: Path, *, tolerant: bool = False) -> Iterator[tuple[int, Line]]:
    """Each line of a recording with its number.

    Args:
        path: The recording.
        tolerant: Read what a damaged file still gives and say nothing; for callers that told its findings already.

    Raises:
        MalformedDataError: A line is not in the line form, or the file is damaged; what stood before it was yielded.
    """
    number = 0
    with Recording(path) as recording:
        for block in recording:
            for raw in block.split(b"\n")[:-1]:
                number += 1
                try:
                    line = decode_line(raw)
                except PARSE_ERRORS as error:
                    what = f"line {number} is no line of a recording: {explain(error)}"
                    raise MalformedDataError(what, where=str(path), remedy="validate it") from None
                yield number, line
    if recording.findings and not tolerant:
        raise MalformedDataError(
            str(recording.findings[0]), where=str(path), remedy="validate it; what stands before was read"
        )


def _whole_lines(data: bytes) -> tuple[bytes, bytes]:
    end = data.rfind(b"\n") + 1
    return data[:end], data[end:]
