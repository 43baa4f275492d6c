"""Inflated bytes of a recording, member by member, with the damage and the digest of the file.

A crash or a power loss leaves a torn or zero-filled tail. Other damage ends the reading of a gzip file,
because the position of later data is unknown. Members of the recorder state their length (`gzip_members.py`),
so that the recovery of a session can continue after damage.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Self

from isal import igzip_lib, isal_zlib

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.sessions.gzip_members import (
    MAX_MEMBER_BYTES,
    Content,
    find_next_member,
    read_member,
    salvage_lines,
)

BROKEN: Any = isal_zlib.error
"""Exception of isal for data that are not gzip. Its type stubs declare it as an instance."""
_READ_BYTES = 1 << 18
_MAX_PIECE_BYTES = 512 << 10
"""Maximum size of an inflated piece, for any compression ratio."""
_MAGIC = b"\x1f\x8b"
_SALVAGE_BYTES = 4096
"""Compressed bytes per step of the search for the last byte before damage."""
_STEP = 1 << 20


class DamagePolicy(StrEnum):
    """Reaction of the reader to damage of a gzip file. Every policy reports the damage as a finding."""

    STOP = "stop"
    """Return the bytes before the damage that were inflated when it was found."""
    SALVAGE = "salvage"
    """Return all bytes before the damage. No CRC covers those of the damaged member: check every line."""
    SKIP = "skip"
    """Return sound members of a recorder only, and continue with the next one after damage."""


class FindingKind(StrEnum):
    """Kind of damage of a file."""

    EMPTY = "empty"
    TORN_MEMBER = "torn member"
    ZERO_TAIL = "zero-filled tail"
    DAMAGED_MEMBER = "damaged member"
    FOREIGN_BYTES = "bytes that are no gzip"
    OPEN_LINE = "open last line"


@dataclass(frozen=True, slots=True)
class Finding:
    """Damage of a file.

    Attributes:
        kind: Kind of the damage.
        offset: Byte of the file at which the damage begins; None if only the inflated position is known.
        detail: Text for the user, after the kind and the offset.
        end: Byte after the damage; None if the damage reaches to the end of the file or its end is unknown.
    """

    kind: FindingKind
    offset: int | None
    detail: str
    end: int | None = None

    def __str__(self) -> str:
        """Format the finding as one line."""
        return (
            f"{self.kind} at byte {self.offset:,}: {self.detail}"
            if self.offset is not None
            else f"{self.kind}: {self.detail}"
        )


@dataclass(slots=True)
class Source:
    """Inflated bytes of a file. Iterate only once.

    Attributes:
        path: The file.
        file: The open file.
        end: Byte at which to stop; None to read to the end.
        digest_end: Byte after `end` up to which the digest is computed; None for `end`.
        policy: Reaction to damage.
        findings: Damage of the file; complete after the last piece.
        members: Number of gzip members that were read without damage.
        position: Byte of the file after the last read.
        sound_end: Byte after the last sound member; only with `SKIP`.
        salvaged: Whole lines that were inflated from a torn tail; only with `SKIP`.
        open_line: Bytes after those lines: a torn line, or a line without its line feed; only with `SKIP`.
    """

    path: Path
    file: BinaryIO
    end: int | None = None
    digest_end: int | None = None
    policy: DamagePolicy = DamagePolicy.STOP
    findings: list[Finding] = field(default_factory=list)
    members: int = 0
    position: int = 0
    sound_end: int = 0
    salvaged: bytes = b""
    open_line: bytes = b""
    _digest: hashlib._Hash | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        start: int = 0,
        end: int | None = None,
        *,
        digest_end: int | None = None,
        policy: DamagePolicy = DamagePolicy.STOP,
    ) -> Source:
        """Open a file, or only its bytes `start..end`.

        Raises:
            MalformedDataError: The file cannot be opened.
        """
        try:
            source = cls(path, path.open("rb", buffering=0), end, digest_end, policy, position=start)
            source.file.seek(start)
        except OSError as error:
            raise MalformedDataError(
                f"cannot be opened: {error.strerror}", where=str(path), remedy="name a recording"
            ) from None
        source.sound_end = start
        source._digest = hashlib.sha256() if start == 0 else None
        return source

    @property
    def sha256(self) -> str:
        """Digest of the bytes read so far; empty if the first byte of the file was not read."""
        return "" if self._digest is None else self._digest.hexdigest()

    def __enter__(self) -> Self:
        """Return the source; the file is open already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.file.close()

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over inflated pieces, with LF for CR LF. A file that is not gzip is read as plain bytes.

        With `SKIP`, a piece consists of the lines of one member, unchanged.
        """
        if self.policy is DamagePolicy.SKIP:
            yield from self._sound_members()
            return
        carried, is_empty = b"", True  # carried: a CR at the end of a piece, which may be part of a CR LF
        for piece in self._pieces():
            is_empty = False
            if not carried and b"\r" not in piece:
                yield piece
                continue
            text = (carried + piece).replace(b"\r\n", b"\n")
            carried = b"\r" if text.endswith(b"\r") else b""
            yield text[: len(text) - len(carried)]
        if carried:
            yield carried
        if is_empty and not self.findings:
            self.findings.append(Finding(FindingKind.EMPTY, 0, "the file is empty"))

    def _sound_members(self) -> Iterator[bytes]:
        with map_file(self.path) as content:
            at, total = self.sound_end, len(content)
            while at < total:
                found = read_member(content, at)
                if found is not None:
                    yield found.lines
                    self.members += 1
                    self.sound_end = at = at + found.length
                    continue
                following = find_next_member(content, at + 1)
                if following is None:
                    self._record_tail(content, at)
                    return
                detail = f"{following - at:,} bytes are no member"
                self.findings.append(Finding(FindingKind.DAMAGED_MEMBER, at, detail, following))
                at = following

    def _record_tail(self, content: Content, at: int) -> None:
        """Report the bytes after the last sound member, and inflate the lines of a torn member."""
        total = len(content)
        is_zero = not any(content[start : start + _STEP].strip(b"\0") for start in range(at, total, _STEP))
        kind = FindingKind.ZERO_TAIL if is_zero else FindingKind.TORN_MEMBER
        self.findings.append(Finding(kind, at, f"{total - at:,} bytes to the end of the file"))
        self.salvaged, self.open_line = salvage_lines(content[at : min(total, at + MAX_MEMBER_BYTES)])

    def _pieces(self) -> Iterator[bytes]:
        first = self._read()
        if first.startswith(_MAGIC):
            yield from self._members(first)
            while self._read():  # the digest includes bytes after damage, which were not inflated
                pass
        elif first.strip(b"\0"):
            while first:
                yield first
                first = self._read()
        elif first:
            self._record_foreign_bytes(first, self.position - len(first))
        if self.digest_end is not None:
            self.end = self.digest_end
            while self._read():
                pass

    def _members(self, data: bytes) -> Iterator[bytes]:
        start = self.position - len(data)
        while data:
            if not data.startswith(_MAGIC) and not _MAGIC.startswith(data[:2]):
                self._record_foreign_bytes(data, start)
                return
            left = yield from self._member(data, start)
            if left is None:
                return
            start = self.position - len(left)
            data = left or self._read()

    def _member(self, data: bytes, start: int) -> Generator[bytes, None, bytes | None]:
        """Inflate the member at byte `start`. Returns the bytes after it, or None if it is damaged."""
        inflater, inflated = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), 0
        while data or not inflater.needs_input:
            try:
                piece = inflater.decompress(data, _MAX_PIECE_BYTES)
            except BROKEN as error:
                if self.policy is DamagePolicy.SALVAGE:
                    yield from self._salvage(start, inflated)
                what = f"{error}; the rest of the file was not read, because its position is unknown"
                self.findings.append(Finding(FindingKind.DAMAGED_MEMBER, start, what))
                return None
            if piece:
                inflated += len(piece)
                yield piece
            if inflater.eof:
                self.members += 1
                return inflater.unused_data
            data = self._read() if inflater.needs_input else b""
        what = (
            f"the file ends inside the member, after {self.position - start:,} bytes; "
            "resume the session, or cut the file there"
        )
        self.findings.append(Finding(FindingKind.TORN_MEMBER, start, what))
        return None

    def _salvage(self, start: int, known: int) -> Iterator[bytes]:
        """Inflate a damaged member again, and yield its bytes between the first `known` bytes and the damage.

        A decoder that fails drops the output of the failed call. The member is therefore inflated in small
        steps, the last one byte by byte.
        """
        inflater, seen = zlib.decompressobj(31), 0
        with self.path.open("rb") as file:
            file.seek(start)
            while data := file.read(_SALVAGE_BYTES):
                before = inflater.copy()
                try:
                    piece = inflater.decompress(data)
                except zlib.error:
                    yield _decompress_until_error(before, data)[max(0, known - seen) :]
                    return
                yield piece[max(0, known - seen) :]
                seen += len(piece)

    def _record_foreign_bytes(self, data: bytes, start: int) -> None:
        """Report bytes after the last member: zeros, or other bytes."""
        zeros = True
        while data:
            zeros = zeros and not data.strip(b"\0")
            data = self._read()
        what = (
            f"{self.position - start:,} bytes to the end of the file; resume the session, or "
            "cut the file there"
        )
        kind = FindingKind.ZERO_TAIL if zeros else FindingKind.FOREIGN_BYTES
        self.findings.append(Finding(kind, start, what))

    def _read(self) -> bytes:
        data = self.file.read(_READ_BYTES if self.end is None else min(_READ_BYTES, self.end - self.position))
        if self._digest is not None:
            self._digest.update(data)
        self.position += len(data)
        return data


def _decompress_until_error(inflater: zlib._Decompress, data: bytes) -> bytes:
    """Return the output of a decoder before the byte at which it fails."""
    out = bytearray()
    with suppress(zlib.error):
        for at in range(len(data)):
            out += inflater.decompress(data[at : at + 1])
    return bytes(out)


@contextmanager
def map_file(path: Path) -> Iterator[Content]:
    """Map a file into memory, so that only the pages that are accessed are read."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content
