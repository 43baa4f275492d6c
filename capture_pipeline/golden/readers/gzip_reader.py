"""The bytes of a recording, inflated member by member, and what is wrong with the file as a file.

Knows gzip, and of lines only that one may end in CR LF: the CR is removed, so that every reader gets the same lines. A torn or zero-filled
tail is what a crash or a power loss leaves; damage before it is told as such, and reading ends there, for nothing after it can be placed.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Self

from isal import isal_zlib

from capture_pipeline.errors import MalformedDataError

BROKEN: Any = isal_zlib.error
"""What isal raises for data that are no gzip; its stubs declare it as an instance."""
_READ_BYTES = 1 << 18
_MOST_OUT = 2 << 20
"""A piece never exceeds this, however well it was packed."""
_MAGIC = b"\x1f\x8b"
_SALVAGE_BYTES = 4096
"""Packed bytes given to the decoder at once while it looks for the last byte before damage."""


class FindingKind(StrEnum):
    """What is wrong with a file."""

    EMPTY = "empty"
    TORN_MEMBER = "torn member"
    ZERO_TAIL = "zero-filled tail"
    DAMAGED_MEMBER = "damaged member"
    FOREIGN_BYTES = "bytes that are no gzip"
    OPEN_LINE = "open last line"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong.

    Attributes:
        kind: What it is.
        offset: Byte of the file at which it begins; None where only the inflated place is known.
        detail: The rest of the sentence.
    """

    kind: FindingKind
    offset: int | None
    detail: str

    def __str__(self) -> str:
        """One line."""
        return (
            f"{self.kind} at byte {self.offset:,}: {self.detail}"
            if self.offset is not None
            else f"{self.kind}: {self.detail}"
        )


@dataclass(slots=True)
class Source:
    """One pass over a file's inflated bytes.

    Attributes:
        path: The file.
        file: It, open.
        end: Byte at which to stop; None reads to the end.
        findings: What is wrong with it, complete after the last piece.
        members: Gzip members that ended well.
        taken: Bytes of the file so far.
        salvage: Yield what a damaged member gives before its damage too. No CRC covers it: the caller has to check every line.
    """

    path: Path
    file: BinaryIO
    end: int | None = None
    findings: list[Finding] = field(default_factory=list)
    members: int = 0
    taken: int = 0
    salvage: bool = False
    _digest: hashlib._Hash = field(default_factory=hashlib.sha256)

    @classmethod
    def opened(cls, path: Path, start: int = 0, end: int | None = None, *, salvage: bool = False) -> Source:
        """Open a file, or of it the bytes `start..end`.

        Raises:
            MalformedDataError: It cannot be opened.
        """
        try:
            source = cls(path, path.open("rb", buffering=0), end=end, taken=start, salvage=salvage)
            source.file.seek(start)
        except OSError as error:
            raise MalformedDataError(
                f"cannot be opened: {error.strerror}", where=str(path), remedy="name a recording"
            ) from None

        return source

    @property
    def sha256(self) -> str:
        """Digest of what was read."""
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        """Nothing more than the file it holds."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.file.close()

    def __iter__(self) -> Iterator[bytes]:
        """Inflated pieces with LF for CR LF; a file that does not begin as gzip does is passed on as it is."""
        held, is_empty = b"", True  # held: a CR at the end of a piece, until it is known what follows
        for piece in self._pieces():
            is_empty = False
            if not held and b"\r" not in piece:
                yield piece
                continue
            text = (held + piece).replace(b"\r\n", b"\n")
            held = b"\r" if text.endswith(b"\r") else b""
            yield text[: len(text) - len(held)]
        if held:
            yield held
        if is_empty and not self.findings:
            self.findings.append(Finding(FindingKind.EMPTY, 0, "the file holds nothing"))

    def _pieces(self) -> Iterator[bytes]:
        first = self._read()
        if first.startswith(_MAGIC):
            yield from self._members(first)
            while self._read():  # the digest covers what damage kept from being inflated too
                pass
        elif first.strip(b"\0"):
            while first:
                yield first
                first = self._read()
        elif first:
            self._foreign(first, self.taken - len(first))

    def _members(self, data: bytes) -> Iterator[bytes]:
        start = self.taken - len(data)
        while data:
            if not data.startswith(_MAGIC) and not _MAGIC.startswith(data[:2]):
                self._foreign(data, start)
                return
            left = yield from self._member(data, start)
            if left is None:
                return
            start = self.taken - len(left)
            data = left or self._read()

    def _member(self, data: bytes, start: int) -> Generator[bytes, None, bytes | None]:
        """Inflate one member that begins at byte `start`; returns what follows it, or None where it did not end well."""
        inflater, inflated = isal_zlib.decompressobj(wbits=31), 0
        while data:
            try:
                piece = inflater.decompress(data, _MOST_OUT)
            except BROKEN as error:
                if self.salvage:
                    yield from self._salvaged(start, inflated)
                what = f"{error}; the rest of the file cannot be placed and was not read"
                self.findings.append(Finding(FindingKind.DAMAGED_MEMBER, start, what))
                return None
            if piece:
                inflated += len(piece)
                yield piece
            if inflater.eof:
                self.members += 1
                return bytes(inflater.unused_data)
            data = inflater.unconsumed_tail or self._read()
        what = f"the file ends inside it, after {self.taken - start:,} bytes; resume the session, or cut the file there"
        self.findings.append(Finding(FindingKind.TORN_MEMBER, start, what))
        return None

    def _salvaged(self, start: int, known: int) -> Iterator[bytes]:
        """What the damaged member that begins at byte `start` gives behind its first `known` bytes.

        A decoder that fails drops what it decoded in that call, so the member is decoded again in small steps, the last one byte by byte.
        """
        inflater, seen = zlib.decompressobj(31), 0
        with self.path.open("rb") as file:
            file.seek(start)
            while data := file.read(_SALVAGE_BYTES):
                before = inflater.copy()
                try:
                    piece = inflater.decompress(data)
                except zlib.error:
                    yield _until_error(before, data)[max(0, known - seen) :]
                    return
                yield piece[max(0, known - seen) :]
                seen += len(piece)

    def _foreign(self, data: bytes, start: int) -> None:
        """Tell what follows the last member: zeros, or something else."""
        zeros = True
        while data:
            zeros = zeros and not data.strip(b"\0")
            data = self._read()
        what = (
            f"{self.taken - start:,} bytes to the end of the file; resume the session, or cut the file there"
        )
        kind = FindingKind.ZERO_TAIL if zeros else FindingKind.FOREIGN_BYTES
        self.findings.append(Finding(kind, start, what))

    def _read(self) -> bytes:
        data = self.file.read(_READ_BYTES if self.end is None else min(_READ_BYTES, self.end - self.taken))
        self._digest.update(data)
        self.taken += len(data)
        return data


def _until_error(inflater: zlib._Decompress, data: bytes) -> bytes:
    """What a decoder gives of some bytes before one of them makes it fail."""
    out = bytearray()
    with suppress(zlib.error):
        for at in range(len(data)):
            out += inflater.decompress(data[at : at + 1])
    return bytes(out)
