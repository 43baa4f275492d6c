"""Gzip members with a stated length, and the scan that separates sound members from torn or damaged bytes.

A recording is a chain of gzip members, each of whole lines. A member states its length and its count of lines
in an extra field (RFC 1952, subfield `CP`), which other gzip readers skip. With it a reader finds the next
member without inflating this one, and a scan distinguishes a torn tail from damage in the middle. The module
opens no file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from isal import isal_zlib

LEVEL = 2
_HEAD = struct.Struct("<2sBBIBBH2sHII")
_TAIL = struct.Struct("<II")
_MAGIC, _DEFLATE, _EXTRA, _UNKNOWN_OS = b"\x1f\x8b", 8, 4, 255
_SUBFIELD, _PAYLOAD = b"CP", 8
_START = struct.pack("<2sBBIBB", _MAGIC, _DEFLATE, _EXTRA, 0, 0, _UNKNOWN_OS)
MAX_MEMBER_BYTES = 256 << 20
"""Longest member of a recorder; a head that states more is not valid."""
MAX_LINES_BYTES = 512 << 20
"""Most bytes that a member inflates to; the recorder writes a member once `FULL_BYTES` are pending."""
FULL_BYTES = 32 << 20
_STEP = 1 << 20


class Source(Protocol):
    """Bytes at an offset, for instance a memory map or a file."""

    def __len__(self) -> int:
        """Return the count of bytes."""

    def __getitem__(self, part: slice) -> bytes:
        """Return a range of the bytes."""


class Ending(StrEnum):
    """End of a chain of members."""

    CLEAN = "clean"
    TORN = "torn"
    """The chain ends within a member, as after a kill."""
    ZEROS = "zeros"
    """The chain ends with zero bytes, as after a loss of power; Python's gzip does not report them."""


@dataclass(frozen=True)
class Damage:
    """Range of bytes between sound members that is not a member."""

    start: int
    end: int


@dataclass
class Scan:
    """Result of a scan.

    Attributes:
        good_end: Offset after the last sound member.
        ending: Kind of the end of the file.
        damage: Ranges between sound members.
        lines: Count of lines in sound members.
        members: Count of sound members.
        salvaged: Whole lines that were inflated from the torn tail.
        open_line: Bytes after those lines: a torn line, or a line without its line feed.
    """

    good_end: int = 0
    ending: Ending = Ending.CLEAN
    damage: list[Damage] = field(default_factory=list)
    lines: int = 0
    members: int = 0
    salvaged: bytes = b""
    open_line: bytes = b""


def build_member(lines: bytes, count: int) -> bytes:
    """Build one member; the same lines give the same bytes.

    Args:
        lines: Whole lines.
        count: Count of the lines.
    """
    body = isal_zlib.compress(lines, LEVEL, wbits=-15)
    size = _HEAD.size + len(body) + _TAIL.size
    head = _HEAD.pack(
        _MAGIC, _DEFLATE, _EXTRA, 0, 0, _UNKNOWN_OS, 4 + _PAYLOAD, _SUBFIELD, _PAYLOAD, size, count
    )
    return b"".join((head, body, _TAIL.pack(isal_zlib.crc32(lines), len(lines) & 0xFFFFFFFF)))


def member_size(head: bytes) -> tuple[int, int] | None:
    """Return the stated length and count of lines of a member; None if the head is not one of a recorder.

    Args:
        head: At least the first `HEAD_BYTES` bytes of the member.
    """
    if len(head) < _HEAD.size or not head.startswith(_START):
        return None
    *_, subfield, payload, size, count = _HEAD.unpack_from(head)
    is_ours = (
        subfield == _SUBFIELD and payload == _PAYLOAD and _HEAD.size + _TAIL.size < size <= MAX_MEMBER_BYTES
    )
    return (size, count) if is_ours else None


def claimed_lines(content: Source, at: int) -> int:
    """Count the lines that the members from an offset on state, as long as their heads can be followed."""
    lines = 0
    while (head := member_size(content[at : at + HEAD_BYTES])) is not None:
        at, lines = at + head[0], lines + head[1]
    return lines


HEAD_BYTES = _HEAD.size
"""Bytes that `member_size` needs."""


def inflate_member(member: bytes) -> bytes | None:
    """Return the lines of a member; None if it is damaged, incomplete, too long, or not alone."""
    stated = _TAIL.unpack(member[-_TAIL.size :])[1]
    if stated > MAX_LINES_BYTES:
        return None
    inflater = zlib.decompressobj(31)
    try:
        lines = inflater.decompress(member, stated + 1)
    except zlib.error:
        return None
    return lines if inflater.eof and not inflater.unused_data and lines.endswith(b"\n") else None


def scan(source: Source, start: int, on_lines: Callable[[bytes], None]) -> Scan:
    """Read, inflate and check all members from an offset to the end.

    Args:
        source: The recording.
        start: Offset of a member.
        on_lines: Receives the lines of each sound member, in order.
    """
    found = Scan(good_end=start)
    at, total = start, len(source)
    while at < total:
        lines = _read_member(source, at)
        if lines is None:
            following = _find_next_member(source, at + 1)
            if following is None:
                found.ending = Ending.ZEROS if _is_zero(source, at) else Ending.TORN
                found.salvaged, found.open_line = _salvage_lines(
                    source[at : min(total, at + MAX_MEMBER_BYTES)]
                )
                break
            found.damage.append(Damage(at, following))
            at = following
            continue
        body, size = lines
        on_lines(body)
        found.lines += body.count(b"\n")
        found.members += 1
        at += size
        found.good_end = at
    return found


def _read_member(source: Source, at: int) -> tuple[bytes, int] | None:
    head = member_size(source[at : at + _HEAD.size])
    if head is None or at + head[0] > len(source):
        return None
    lines = inflate_member(source[at : at + head[0]])
    return None if lines is None or lines.count(b"\n") != head[1] else (lines, head[0])


def _find_next_member(source: Source, at: int) -> int | None:
    """Return the offset of the next sound member, searched by its first bytes."""
    total = len(source)
    while at < total:
        window = source[at : at + _STEP + len(_START) - 1]
        found = window.find(_START)
        if found < 0:
            at += _STEP
            continue
        at += found
        if _read_member(source, at) is not None:
            return at
        at += 1
    return None


def _is_zero(source: Source, start: int) -> bool:
    return not any(source[at : at + _STEP].strip(b"\0") for at in range(start, len(source), _STEP))


def _salvage_lines(tail: bytes) -> tuple[bytes, bytes]:
    """Return the whole lines that can be inflated from a torn member, and the bytes after them."""
    inflater = zlib.decompressobj(31)
    out = bytearray()
    try:
        for at in range(0, len(tail), 4096):
            out += inflater.decompress(tail[at : at + 4096])
            if len(out) > MAX_LINES_BYTES:
                break
    except zlib.error:
        pass
    end = out.rfind(b"\n") + 1
    return bytes(out[:end]), bytes(out[end:])
