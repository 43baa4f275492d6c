"""One expected entry out of a zip that was downloaded: bounded, checked by CRC, never written to a path the zip chooses.

A zip with two entries, another name, overlapping or encrypted entries, a size that lies or a broken stream is refused.
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
"""Larger than a month of 1m candles, which therefore comes whole."""
_INPUT_BYTES = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")
_DIRECTORY_ENTRY = b"PK\x01\x02"
_MAX_ENTRIES = 1000
"""Far more than one: the four bytes of a directory entry may occur by chance inside packed data."""
_ENCRYPTED, _UTF8 = 0x1, 0x800
_BROKEN: Any = isal_zlib.error
_REMEDY = "the file is set aside and other sources are used"


def read_only_entry(content: bytes, expected: str, max_bytes: int, where: str) -> bytes:
    """Inflate the one entry of a zip.

    Args:
        content: The zip.
        expected: The name that the entry must have.
        max_bytes: The most it may inflate to; checked against what the zip claims and against what comes out.
        where: The zip's name, for errors.

    Returns:
        The entry's bytes; their CRC-32 and size are those the zip states.

    Raises:
        MalformedDataError: The zip is anything else.
    """
    return b"".join(read_entry_blocks(content, expected, max_bytes, where))


def read_entry_blocks(content: bytes, expected: str, max_bytes: int, where: str) -> Iterator[bytes]:
    """Inflate the one entry of a zip block by block, in the memory of one block.

    What `read_only_entry` checks before it returns is checked here before the last block is yielded: a small entry is one block.

    Args:
        content: The zip.
        expected: The name that the entry must have.
        max_bytes: The most it may inflate to.
        where: The zip's name, for errors.

    Raises:
        MalformedDataError: See `read_only_entry`; blocks that were yielded before are worthless then.
    """
    entry = _find_only_entry(content, expected, max_bytes, where)
    held, size, checksum = b"", 0, 0
    for block in filter(None, _inflate(content, entry, where)):
        if held:
            yield held
        held, size, checksum = block, size + len(block), isal_zlib.crc32(block, checksum)
        if size > entry.file_size:
            break
    if size != entry.file_size or checksum != entry.CRC:
        raise MalformedDataError("does not match its own CRC-32", where=where, remedy=_REMEDY)
    yield held


def _find_only_entry(content: bytes, expected: str, max_bytes: int, where: str) -> zipfile.ZipInfo:
    """Return the one entry of a zip, without looking inside."""
    if content.count(_DIRECTORY_ENTRY) > _MAX_ENTRIES:
        raise MalformedDataError(f"has more than {_MAX_ENTRIES:,} entries", where=where, remedy=_REMEDY)
    with (
        guard_parser(where, "is not a readable zip", remedy=_REMEDY),
        zipfile.ZipFile(io.BytesIO(content)) as archive,
    ):
        entries = archive.infolist()
    if len(entries) != 1 or _name_of(entries[0]) != expected:
        names = ", ".join(_name_of(entry) for entry in entries[:4])
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


def _name_of(entry: zipfile.ZipInfo) -> str:
    """Return the name of an entry; tools that write UTF-8 without saying so are understood."""
    if entry.flag_bits & _UTF8 or entry.filename.isascii():
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode()
    except UnicodeError:
        return entry.filename


def _inflate(content: bytes, entry: zipfile.ZipInfo, where: str) -> Iterator[bytes]:
    """Yield the content of an entry in blocks of at most `BLOCK_BYTES`; a byte too many shows that the stated size is wrong."""
    data = _entry_data(content, entry, where)
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
            given = tail or data[at : at + step]
            at += 0 if tail else len(given)
            block = bytes(decompressor.decompress(given, most))
            # Output may be left inside when all input was taken: the end is where neither goes in nor comes out.
            is_stuck = not block and not len(given)
            yield block
    if not decompressor.eof or decompressor.unused_data or at < len(data):
        raise MalformedDataError("does not end where it says", where=where, remedy=_REMEDY)


def _entry_data(content: bytes, entry: zipfile.ZipInfo, where: str) -> memoryview:
    """The compressed bytes of the entry, by its local header; they must lie before the central directory."""
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
