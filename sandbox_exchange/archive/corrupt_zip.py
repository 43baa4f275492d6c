"""Zips: the good one that a published file is, and those with a defect. All are the same bytes each time."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from capture_pipeline.errors import ConfigError
from sandbox_exchange.faults.rules import FaultRule

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION, _DEFLATED = 20, 8
_DATE, _TIME = (44 << 9) | (1 << 5) | 1, 0
_MB = 1 << 20
MOST_ENTRY = 2 << 30
"""Bytes to which an entry inflates at most."""


@dataclass(frozen=True)
class Entry:
    """One entry, compressed.

    Attributes:
        name: Its name.
        data: Raw deflate stream.
        crc: CRC-32 of what it inflates to.
        size: Length of that.
    """

    name: str
    data: bytes
    crc: int
    size: int


def entry_of(name: str, content: bytes) -> Entry:
    """Compress an entry."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return Entry(name, packer.compress(content) + packer.flush(), zlib.crc32(content), len(content))


def zip_of(*entries: Entry, overlapping: bool = False) -> bytes:
    """A zip of entries.

    Args:
        entries: In their order.
        overlapping: All entries of the directory point at the first one's data, the way a small zip bomb is built.
    """
    body, directory = b"", b""
    for number, entry in enumerate(entries):
        name = entry.name.encode()
        fixed = (_VERSION, 0, _DEFLATED, _TIME, _DATE, entry.crc, len(entry.data), entry.size, len(name), 0)
        offset = 0 if overlapping else len(body)
        if not (overlapping and number):
            body += _LOCAL.pack(b"PK\x03\x04", *fixed) + name + entry.data
        directory += _CENTRAL.pack(b"PK\x01\x02", _VERSION, *fixed, 0, 0, 0, 0, offset) + name
    return (
        body
        + directory
        + _END.pack(b"PK\x05\x06", 0, 0, len(entries), len(entries), len(directory), len(body), 0)
    )


@lru_cache(maxsize=4)
def zeros(megabytes: int) -> tuple[bytes, int]:
    """A raw deflate stream that inflates to many zero bytes, and their CRC-32; made without holding what it inflates to."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block, crc = bytes(_MB), 0
    # After a full flush nothing refers back, so the same bytes can stand as often as wanted.
    piece = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(megabytes):
        crc = zlib.crc32(block, crc)
    return piece * megabytes + b"\x03\x00", crc


def first_entry(body: bytes, where: str) -> bytes:
    """Inflate the first entry of a zip that this process serves.

    Raises:
        ConfigError: It inflates to more than `MOST_ENTRY`.
    """
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        entry = archive.infolist()[0]
        if entry.file_size > MOST_ENTRY:  # zipfile inflates no more than an entry states
            raise ConfigError(
                f"inflates to {entry.file_size:,} bytes, {MOST_ENTRY:,} are allowed",
                where=where,
                remedy="remove it",
            )
        return archive.read(entry)


def gzip_bomb(megabytes: int) -> bytes:
    """A gzip member that inflates to that many megabytes."""
    data, crc = zeros(megabytes)
    return (
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
        + data
        + struct.pack("<2L", crc, megabytes * _MB & 0xFFFFFFFF)
    )


def spoil_zip(good: bytes, name: str, csv: bytes, rule: FaultRule) -> bytes:
    """A zip with the defect of a rule; unchanged if the rule is about something else.

    Args:
        good: The zip as it should be.
        name: Of its entry.
        csv: Content of its entry.
        rule: Whose fault it is.
    """
    return _KINDS[rule.fault](good, name, csv, rule) if rule.fault in _KINDS else good


def _truncated(good: bytes, _: str, __: bytes, rule: FaultRule) -> bytes:
    return good[: int(len(good) * rule.number("at", 0.6))]


def _bit_flip(good: bytes, name: str, _: bytes, rule: FaultRule) -> bytes:
    """One bit of the compressed data is another; its place depends on nothing else, so the file stays the same."""
    start, end = _LOCAL.size + len(name.encode()), good.find(b"PK\x01\x02")
    return flipped(good, start + int((end - start) * rule.number("at", 0.5)))


def flipped(content: bytes, at: int) -> bytes:
    """`content` with one bit flipped."""
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


def _bomb(_: bytes, name: str, __: bytes, rule: FaultRule) -> bytes:
    megabytes = int(rule.number("inflate_mb", 1024))
    data, crc = zeros(megabytes)
    return zip_of(Entry(name, data, crc, megabytes * _MB))


def _overlapping(_: bytes, name: str, csv: bytes, rule: FaultRule) -> bytes:
    entry = entry_of(name, csv)
    return zip_of(*[entry] * int(rule.number("rows", 64)), overlapping=True)


_KINDS: dict[str, Callable[[bytes, str, bytes, FaultRule], bytes]] = {
    "zip_truncated": _truncated,
    "zip_bit_flip": _bit_flip,
    "zip_bomb": _bomb,
    "zip_overlapping": _overlapping,
    "zip_two_entries": lambda _, name, csv, __: zip_of(
        entry_of(name, csv), entry_of("readme.txt", b"second\n")
    ),
    "zip_other_name": lambda _, name, csv, __: zip_of(entry_of("other-" + name, csv)),
    "zip_traversal": lambda _, name, csv, __: zip_of(entry_of("../" + name, csv)),
}
