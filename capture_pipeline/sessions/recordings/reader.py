"""Reader of recordings in blocks of whole lines, with bounded memory. A thread inflates the file.

A recording consists of gzip members of whole lines (`.jsonl.gz`; `.jsonl.gz.part` while it grows) or of plain
lines. The CRC of each member is checked. Damage left by a crash (a torn member, a tail of zeros, a torn last
line) is a finding with its position, or an error for a strict reader; all data before it are read. A last
line without a line feed is accepted if it is complete. The SHA-256 of the file is computed during the
reading.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from capture_pipeline.errors import LakeError, MalformedDataError
from capture_pipeline.parsing import PARSE_ERRORS, explain
from capture_pipeline.sessions.line_format import Line, decode_line
from capture_pipeline.sessions.recordings.source import DamagePolicy, Finding, FindingKind, Source

BLOCK_BYTES = 256 << 10
DECODER_BLOCK_BYTES = 16 << 20
"""Size of a block for the compiled decoder; the row groups of converted tables depend on it."""
BLOCKS_AHEAD = 3
MAX_LINE_BYTES = 32 << 20
_END_WAIT_S = 0.2
_REPAIR = "run `capture session validate` on it, or record again"
_NOT_A_RECORDING = "check that the file is a recording, or record again"


@dataclass(slots=True)
class Recording:
    """Blocks of one recording. Iterate only once, inside `with`.

    A block ends with the last line that fits into `block_bytes`; a longer line is a block of its own. With a
    strict reader, blocks of the same lines therefore end at the same bytes, for any gzip members. Without it,
    a block of up to twice the size may end with a gzip member, so that its bytes are not copied.

    Attributes:
        path: The file.
        block_bytes: Maximum size of a block of several lines.
        start: First byte of the file to read; a gzip member must begin there.
        end: Byte at which to stop; a member must end there. None to read to the end.
        digest_end: Byte after `end` up to which the digest is computed; None for `end`.
        policy: Reaction to damage.
        is_strict: True to raise an error for damage, and for a line that is longer than a block.
        padding: Number of zero bytes to append to each block, for readers that load several bytes at once.
        findings: Damage of the file; complete after the last block.
        members: Number of gzip members that were read without damage; set after the last block.
        size: Bytes of the file; set after the last block.
        sha256: Digest of the file, 64 hex digits; set after the last block. Empty if `start` is not 0.
        open_line: Torn line at the end; it is also a finding.
    """

    path: Path
    block_bytes: int = BLOCK_BYTES
    start: int = 0
    end: int | None = None
    digest_end: int | None = None
    policy: DamagePolicy = DamagePolicy.STOP
    is_strict: bool = False
    padding: int = 0
    findings: list[Finding] = field(default_factory=list)
    members: int = 0
    size: int = 0
    sha256: str = ""
    open_line: bytes = b""
    _lines: int = 0
    _queue: queue.Queue[bytes | BaseException | None] = field(
        default_factory=lambda: queue.Queue(BLOCKS_AHEAD)
    )
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Start the thread that reads ahead.

        Raises:
            MalformedDataError: The file cannot be opened.
            LakeError: The file does not exist, and the reader is strict.
        """
        if self.is_strict and not self.path.is_file():
            raise LakeError("does not exist", where=str(self.path), remedy="name a finished recording")
        source = Source.open(self.path, self.start, self.end, digest_end=self.digest_end, policy=self.policy)
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
        """Iterate over the blocks; each block consists of whole lines with their line feeds, and the padding.

        Raises:
            MalformedDataError: A line is longer than `MAX_LINE_BYTES`, or the file cannot be read. If the
                reader is strict: the file is damaged or torn, or a line is longer than a block.
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
                rest = self._emit_blocks(source)
            self.members, self.size, self.sha256 = source.members, source.position, source.sha256
            self.findings.extend(source.findings)
            self._check_whole()
            self._emit_last(rest)
        except OSError as error:
            last = MalformedDataError(f"cannot be read: {error}", where=str(self.path))
        except BaseException as error:  # noqa: BLE001 - `__iter__` raises it
            last = error
        self._put(last)

    def _emit_blocks(self, source: Source) -> list[bytes]:
        """Emit all full blocks; return the parts of the text after them."""
        parts: list[bytes] = []
        size = 0
        for piece in source:
            if self._stop.is_set():
                return []
            parts.append(piece)
            size += len(piece)
            if (
                not self.is_strict
                and self.block_bytes <= size < 2 * self.block_bytes
                and piece.endswith(b"\n")
            ):
                self._emit(parts)
                parts, size = [], 0
            while size >= self.block_bytes:
                cut = self._cut(parts, size)
                if not cut:
                    break
                size -= cut
        return parts

    def _cut(self, parts: list[bytes], size: int) -> int:
        """Emit the first block of the parts and remove it from them.

        Return its size, 0 without a line feed.
        """
        last = parts[-1]
        before = size - len(last)
        room = self.block_bytes - before
        end = last.rfind(b"\n", 0, max(0, room)) + 1
        if not end:
            if room > 0 or b"\n" in last:  # otherwise the earlier parts have no line feed either
                last, before = b"".join(parts), 0
                parts[:] = [last]
                end = last.rfind(b"\n", 0, self.block_bytes) + 1 or last.find(b"\n") + 1
            self._check_line_length(end or size)
            if not end:
                return 0
        block = [*parts[:-1], last[:end]]
        parts[:] = [last[end:]] if end < len(last) else []
        self._emit(block)
        return before + end

    def _emit(self, block: list[bytes]) -> None:
        if self.is_strict:
            self._lines += sum(part.count(b"\n") for part in block)
        if self.padding:
            block.append(bytes(self.padding))
        self._put(block[0] if len(block) == 1 else b"".join(block))

    def _check_line_length(self, size: int) -> None:
        """Check the length of the line at which the next block begins.

        Raises:
            MalformedDataError: The line is too long.
        """
        if self.is_strict and size > self.block_bytes:
            what = f"line {self._lines + 1} is longer than {self.block_bytes:,} bytes"
            raise MalformedDataError(what, where=self.path.name, remedy=_NOT_A_RECORDING)
        if size > MAX_LINE_BYTES:
            what = f"contains a line of more than {MAX_LINE_BYTES:,} bytes"
            raise MalformedDataError(what, where=str(self.path), remedy=_NOT_A_RECORDING)

    def _check_whole(self) -> None:
        """Check that a strict reader read the whole file.

        Raises:
            MalformedDataError: The file is damaged or torn.
        """
        for finding in self.findings:
            if self.is_strict and finding.kind is not FindingKind.EMPTY:
                what = f"the file is damaged after about {self._lines:,} lines: {finding}"
                raise MalformedDataError(what, where=self.path.name, remedy=_REPAIR)

    def _emit_last(self, parts: list[bytes]) -> None:
        """Emit the lines after the last full block, and the last line if only its line feed is missing.

        A line that can be decoded is complete, because its last byte closes the JSON object. A strict reader
        emits any last line, and the decoder of the lines reports it.
        """
        text = b"".join(parts)
        end = text.rfind(b"\n") + 1
        rest = text[end:]
        if rest and (self.is_strict or _is_line(rest)):
            text, end, rest = text.rstrip(b"\r") + b"\n", 0, b""
        if text and not rest:
            self._emit([text])
        elif end:
            self._emit([text[:end]])
        self.open_line = rest
        if rest:
            what = f"the last line has no end: {len(rest):,} bytes, {rest[:60]!r}"
            self.findings.append(Finding(FindingKind.OPEN_LINE, None, what))

    def _put(self, item: bytes | BaseException | None) -> None:
        """Put an item into the queue, unless the reader has stopped."""
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_END_WAIT_S)
            except queue.Full:
                continue
            return


class NumberedLine(NamedTuple):
    """A line of a recording, and its number from 1."""

    number: int
    line: Line


def read_lines(path: Path, *, tolerant: bool = False) -> Iterator[NumberedLine]:
    """Iterate over the lines of a recording.

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
                yield NumberedLine(number, line)
    if recording.findings and not tolerant:
        raise MalformedDataError(
            str(recording.findings[0]),
            where=str(path),
            remedy="run `capture session validate` on it; earlier lines were read",
        )


def _is_line(line: bytes) -> bool:
    try:
        decode_line(line)
    except PARSE_ERRORS:
        return False
    return True
