"""Reader of the only entry of a downloaded zip. Its size is bounded, and its CRC is verified.

A zip is rejected if it has two entries, another name, an overlapping or encrypted entry, a wrong size or a
broken stream. No file is written to a path that the zip contains.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

from isal import isal_zlib

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.parsing import guard_parser

BLOCK_BYTES = 8 << 20
"""Maximum size of a block. A month of 1m klines is smaller and therefore is one block."""
_INPUT_BYTES = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_DIRECTORY_ENTRY = b"PK\x01\x02"
_MAX_ENTRIES = 1000
"""Far more than one: the four bytes of a directory entry may occur by chance inside compressed data."""
_ENCRYPTED, _UTF8 = 0x1, 0x800
_BROKEN: Any = isal_zlib.error
_REMEDY = "the file is not used; run again after the exchange has corrected it"


def read_only_entry(content: bytes, expected: str, max_bytes: int, where: str) -> bytes:
    """Inflate the only entry of a zip.

    Args:
        content: Bytes of the zip.
        expected: Expected name of the entry.
        max_bytes: Maximum size of the inflated entry; compared with the stated and with the real size.
        where: Name of the zip, for errors.

    Returns:
        The bytes of the entry; their CRC-32 and size are those that the zip states.

    Raises:
        MalformedDataError: The zip is damaged, too large, encrypted, or has another entry.
    """
    return b"".join(read_entry_blocks(content, expected, max_bytes, where))


def read_entry_blocks(content: bytes, expected: str, max_bytes: int, where: str) -> Iterator[bytes]:
    """Inflate the only entry of a zip block by block, with the memory of one block.

    Size and CRC-32 are verified before the last block is yielded.

    Args:
        content: Bytes of the zip.
        expected: Expected name of the entry.
        max_bytes: Maximum size of the inflated entry.
        where: Name of the zip, for errors.

    Raises:
        MalformedDataError: See `read_only_entry`. Blocks that were already yielded are not verified.
    """
    entry = _find_only_entry(content, expected, max_bytes, where)
    pending, size, checksum = b"", 0, 0
    for block in filter(None, _inflate(content, entry, where)):
        if pending:
            yield pending
        pending, size, checksum = block, size + len(block), isal_zlib.crc32(block, checksum)
        if size > entry.file_size:
            break
    if size != entry.file_size or checksum != entry.CRC:
        raise MalformedDataError("does not match its own CRC-32", where=where, remedy=_REMEDY)
    yield pending


def _find_only_entry(content: bytes, expected: str, max_bytes: int, where: str) -> zipfile.ZipInfo:
    """Return the only entry of a zip, from the zip's directory."""
    if content.count(_DIRECTORY_ENTRY) > _MAX_ENTRIES:
        raise MalformedDataError(f"has more than {_MAX_ENTRIES:,} entries", where=where, remedy=_REMEDY)
    with (
        guard_parser(where, "is not a readable zip", remedy=_REMEDY),
        zipfile.ZipFile(io.BytesIO(content)) as archive,
    ):
        entries = archive.infolist()
    if len(entries) != 1 or _decode_name(entries[0]) != expected:
        names = ", ".join(_decode_name(entry) for entry in entries[:4])
        raise MalformedDataError(
            f"one entry {expected!r} was expected, found {names!r}"[:300], where=where, remedy=_REMEDY
        )
    entry = entries[0]
    if entry.file_size > max_bytes:
        raise MalformedDataError(
            f"would inflate to {entry.file_size:,} bytes, {max_bytes:,} are allowed",
            where=where,
            remedy="raise http.max_csv_mb",
        )
    return entry


def _decode_name(entry: zipfile.ZipInfo) -> str:
    """Return the name of an entry; UTF-8 without the flag of UTF-8 is recognised."""
    if entry.flag_bits & _UTF8 or entry.filename.isascii():
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode()
    except UnicodeError:
        return entry.filename


def _inflate(content: bytes, entry: zipfile.ZipInfo, where: str) -> Iterator[bytes]:
    """Yield the content of an entry in blocks of at most `BLOCK_BYTES`.

    At most one byte more than the stated size is inflated; it shows that the size is wrong.
    """
    data = _find_entry_data(content, entry, where)
    if entry.compress_type == zipfile.ZIP_STORED:
        yield from (bytes(data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES))
        return
    if entry.compress_type != zipfile.ZIP_DEFLATED:
        raise MalformedDataError(
            f"uses compression method {entry.compress_type}", where=where, remedy=_REMEDY
        )
    decompressor = isal_zlib.decompressobj(wbits=-15)
    most = min(BLOCK_BYTES, entry.file_size + 1)
    step = len(data) if entry.file_size < BLOCK_BYTES else _INPUT_BYTES
    at, is_stuck = 0, False
    with guard_parser(where, "is broken inside", remedy=_REMEDY):
        while not decompressor.eof and not is_stuck:
            tail = decompressor.unconsumed_tail
            chunk = tail or data[at : at + step]
            at += 0 if tail else len(chunk)
            block = bytes(decompressor.decompress(chunk, most))
            # The decompressor may still contain output after the last input. It is empty when a call without
            # input returns nothing.
            is_stuck = not block and not len(chunk)
            yield block
    if not decompressor.eof or decompressor.unused_data or at < len(data):
        raise MalformedDataError("does not end where it says", where=where, remedy=_REMEDY)


def _find_entry_data(content: bytes, entry: zipfile.ZipInfo, where: str) -> memoryview:
    """Return the compressed bytes of the entry, by its local header.

    Raises:
        MalformedDataError: The entry is encrypted, or its bytes do not end before the central directory.
    """
    header = content[entry.header_offset : entry.header_offset + _LOCAL_HEADER.size]
    if (
        entry.flag_bits & _ENCRYPTED
        or len(header) < _LOCAL_HEADER.size
        or not header.startswith(b"PK\x03\x04")
    ):
        raise MalformedDataError("has a damaged or encrypted entry", where=where, remedy=_REMEDY)
    fields = _LOCAL_HEADER.unpack(header)
    start = entry.header_offset + _LOCAL_HEADER.size + fields[9] + fields[10]
    end = start + entry.compress_size
    if end > content.rfind(_DIRECTORY_ENTRY):
        raise MalformedDataError("has an entry that runs into its directory", where=where, remedy=_REMEDY)
    return memoryview(content)[start:end]
