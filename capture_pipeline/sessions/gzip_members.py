"""Gzip members with a stated length.

A recording is a chain of gzip members, each of whole lines. A member states its length and its count of lines
in an extra field (RFC 1952, subfield `CP`), which other gzip readers skip. With it a reader finds the next
member without inflating this one, and distinguishes a torn tail from damage in the middle. The module opens
no file.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple, Protocol

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
"""Maximum number of inflated bytes of a member; a recorder writes a member once `FULL_BYTES` are pending."""
FULL_BYTES = 32 << 20
_STEP = 1 << 20


class Content(Protocol):
    """Bytes at an offset, for instance a memory map or a file."""

    def __len__(self) -> int:
        """Return the count of bytes."""

    def __getitem__(self, part: slice) -> bytes:
        """Return a range of the bytes."""


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


class MemberSize(NamedTuple):
    """Length of a member in bytes, and its count of lines, as its head states them."""

    length: int
    line_count: int


class Member(NamedTuple):
    """Lines of a sound member, and its length in bytes."""

    lines: bytes
    length: int


class SalvagedTail(NamedTuple):
    """Whole lines that can be inflated from a torn member, and the bytes after them."""

    lines: bytes
    open_line: bytes


def member_size(head: bytes) -> MemberSize | None:
    """Return the stated size of a member; None if the head is not one of a recorder.

    Args:
        head: At least the first `HEAD_BYTES` bytes of the member.
    """
    if len(head) < _HEAD.size or not head.startswith(_START):
        return None
    *_, subfield, payload, size, count = _HEAD.unpack_from(head)
    is_ours = (
        subfield == _SUBFIELD and payload == _PAYLOAD and _HEAD.size + _TAIL.size < size <= MAX_MEMBER_BYTES
    )
    return MemberSize(size, count) if is_ours else None


def claimed_lines(content: Content, at: int) -> int:
    """Count the lines that the members from an offset on state, as long as their heads can be followed."""
    lines = 0
    while (head := member_size(content[at : at + HEAD_BYTES])) is not None:
        at, lines = at + head.length, lines + head.line_count
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


def read_member(content: Content, at: int) -> Member | None:
    """Return the member at an offset; None if no sound member begins there."""
    head = member_size(content[at : at + _HEAD.size])
    if head is None or at + head.length > len(content):
        return None
    lines = inflate_member(content[at : at + head.length])
    if lines is None or lines.count(b"\n") != head.line_count:
        return None
    return Member(lines, head.length)


def find_next_member(content: Content, at: int) -> int | None:
    """Return the offset of the next sound member, searched by its first bytes."""
    total = len(content)
    while at < total:
        window = content[at : at + _STEP + len(_START) - 1]
        found = window.find(_START)
        if found < 0:
            at += _STEP
            continue
        at += found
        if read_member(content, at) is not None:
            return at
        at += 1
    return None


def salvage_lines(tail: bytes) -> SalvagedTail:
    """Inflate a torn member as far as possible."""
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
    return SalvagedTail(bytes(out[:end]), bytes(out[end:]))
