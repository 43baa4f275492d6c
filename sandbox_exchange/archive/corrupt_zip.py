"""Zip files, correct and with a defect. The same input always gives the same bytes."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from capture_pipeline.errors import ConfigError
from sandbox_exchange.faults.rules import FaultRule

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION, _DEFLATED = 20, 8
_DATE, _TIME = (44 << 9) | (1 << 5) | 1, 0
_MB = 1 << 20
MAX_ENTRY_BYTES = 2 << 30
"""Maximum size of an inflated entry."""


@dataclass(frozen=True)
class ZipEntry:
    """Compressed entry of a zip.

    Attributes:
        name: Name in the zip.
        data: Raw deflate stream.
        crc: CRC-32 of the inflated content.
        size: Bytes of the inflated content.
    """

    name: str
    data: bytes
    crc: int
    size: int


def compress_entry(name: str, content: bytes) -> ZipEntry:
    """Compress content into an entry."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return ZipEntry(name, packer.compress(content) + packer.flush(), zlib.crc32(content), len(content))


def build_zip(*entries: ZipEntry, overlapping: bool = False) -> bytes:
    """Build a zip.

    Args:
        entries: Entries in order.
        overlapping: Point all entries of the directory at the data of the first one, as in a small zip bomb.
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


class DeflatedZeros(NamedTuple):
    """Raw deflate stream of zero bytes, and their CRC-32."""

    data: bytes
    crc: int


@lru_cache(maxsize=4)
def deflate_zeros(megabytes: int) -> DeflatedZeros:
    """Build the stream without storing the zero bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block, crc = bytes(_MB), 0
    # A full flush removes all back references, so that the same bytes can be repeated.
    piece = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    for _ in range(megabytes):
        crc = zlib.crc32(block, crc)
    return DeflatedZeros(piece * megabytes + b"\x03\x00", crc)


def inflate_first_entry(body: bytes, where: str) -> bytes:
    """Inflate the first entry of a recorded zip.

    Raises:
        ConfigError: The entry states a size of more than `MAX_ENTRY_BYTES`.
    """
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        entry = archive.infolist()[0]
        if entry.file_size > MAX_ENTRY_BYTES:  # zipfile inflates at most the stated size
            raise ConfigError(
                f"inflates to {entry.file_size:,} bytes, {MAX_ENTRY_BYTES:,} are allowed",
                where=where,
                remedy="remove it",
            )
        return archive.read(entry)


def gzip_bomb(megabytes: int) -> bytes:
    """Build a gzip member that inflates to a number of megabytes."""
    data, crc = deflate_zeros(megabytes)
    return (
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
        + data
        + struct.pack("<2L", crc, megabytes * _MB & 0xFFFFFFFF)
    )


def corrupt_zip(correct: bytes, name: str, csv: bytes, rule: FaultRule) -> bytes:
    """Return a zip with the defect of a rule; unchanged if the rule is not about the zip.

    Args:
        correct: Correct zip.
        name: Name of the entry.
        csv: Content of the entry.
        rule: Rule of the fault.
    """
    return _KINDS[rule.fault](correct, name, csv, rule) if rule.fault in _KINDS else correct


def _truncated(correct: bytes, _: str, __: bytes, rule: FaultRule) -> bytes:
    return correct[: int(len(correct) * rule.number("at", 0.6))]


def _bit_flip(correct: bytes, name: str, _: bytes, rule: FaultRule) -> bytes:
    """Flip one bit of the compressed data; the position depends only on the file and the rule."""
    start, end = _LOCAL.size + len(name.encode()), correct.find(b"PK\x01\x02")
    return flip_bit(correct, start + int((end - start) * rule.number("at", 0.5)))


def flip_bit(content: bytes, at: int) -> bytes:
    """Return `content` with one bit of the byte at a position flipped."""
    return content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]


def _bomb(_: bytes, name: str, __: bytes, rule: FaultRule) -> bytes:
    megabytes = int(rule.number("inflate_mb", 1024))
    data, crc = deflate_zeros(megabytes)
    return build_zip(ZipEntry(name, data, crc, megabytes * _MB))


def _overlapping(_: bytes, name: str, csv: bytes, rule: FaultRule) -> bytes:
    entry = compress_entry(name, csv)
    return build_zip(*[entry] * int(rule.number("rows", 64)), overlapping=True)


_KINDS: dict[str, Callable[[bytes, str, bytes, FaultRule], bytes]] = {
    "zip_truncated": _truncated,
    "zip_bit_flip": _bit_flip,
    "zip_bomb": _bomb,
    "zip_overlapping": _overlapping,
    "zip_two_entries": lambda _, name, csv, __: build_zip(
        compress_entry(name, csv), compress_entry("readme.txt", b"second\n")
    ),
    "zip_other_name": lambda _, name, csv, __: build_zip(compress_entry("other-" + name, csv)),
    "zip_traversal": lambda _, name, csv, __: build_zip(compress_entry("../" + name, csv)),
}
