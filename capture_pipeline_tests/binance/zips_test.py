"""Reader of downloaded zips: one expected entry, a maximum size, a verified CRC, and one error otherwise."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.binance.archive import zip_file
from capture_pipeline.binance.archive.zip_file import read_entry_blocks, read_only_entry
from capture_pipeline.errors import MalformedDataError

CSV = b"1,2,3\n" * 500


def build_zip(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


GOOD = build_zip(("x.csv", CSV))


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_the_expected_entry_comes_out(method: int) -> None:
    """The entry is deflated or stored."""
    assert read_only_entry(build_zip(("x.csv", CSV), method=method), "x.csv", 10_000, "x.zip") == CSV


def build_overlapping_zip() -> bytes:
    """Build a zip with two directory entries that share one local entry."""
    with zipfile.ZipFile(io.BytesIO(GOOD)) as archive:
        directory = archive.start_dir
    entry, end = GOOD[directory : GOOD.rfind(b"PK\x05\x06")], bytearray(GOOD[GOOD.rfind(b"PK\x05\x06") :])
    end[8:12] = b"\x02\x00\x02\x00"
    end[12:16] = (2 * len(entry)).to_bytes(4, "little")
    return GOOD[:directory] + entry * 2 + bytes(end)


STORED = build_zip(("x.csv", CSV), method=zipfile.ZIP_STORED)
SIZE, PACKED_SIZE, FLAGS = 24, 20, 8
"""Places of fields in an entry of the directory."""


def alter_directory(content: bytes, place: int, value: int, size: int = 4) -> bytes:
    """Change a value in the directory of a zip."""
    at = content.rfind(b"PK\x01\x02") + place
    return content[:at] + value.to_bytes(size, "little") + content[at + size :]


def build_zip_with_extra(extra: bytes) -> bytes:
    """Build a zip whose entry has further bytes after its compressed data."""
    directory, end = GOOD.rfind(b"PK\x01\x02"), GOOD.rfind(b"PK\x05\x06")
    with zipfile.ZipFile(io.BytesIO(GOOD)) as archive:
        packed = archive.infolist()[0].compress_size
    moved = (
        GOOD[:directory]
        + extra
        + GOOD[directory : end + 16]
        + (directory + len(extra)).to_bytes(4, "little")
        + GOOD[end + 20 :]
    )
    return alter_directory(moved, PACKED_SIZE, packed + len(extra))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not a readable zip"),
        (b"<html>no</html>", "is not a readable zip"),
        (GOOD[:-30], "is not a readable zip"),
        (GOOD[: len(GOOD) // 2], "is not a readable zip"),
        (build_zip(), "one entry 'x.csv' was expected"),
        (build_zip(("x.csv", CSV), ("y.csv", CSV)), "one entry 'x.csv' was expected"),
        (build_zip(("y.csv", CSV)), "found 'y.csv'"),
        (build_zip(("../x.csv", CSV)), "found '../x.csv'"),
        (build_zip(("x.csv", b"0" * 20_000)), "would inflate to 20,000 bytes, 10,000 are allowed"),
        (build_zip(("x.csv", CSV), method=zipfile.ZIP_LZMA), "uses compression method 14"),
        (build_overlapping_zip(), "one entry 'x.csv' was expected"),
        (alter_directory(GOOD, SIZE, len(CSV) // 10), "does not match its own CRC-32"),
        (alter_directory(GOOD, SIZE, len(CSV) + 1), "does not match its own CRC-32"),
        (alter_directory(STORED, PACKED_SIZE, len(CSV) + 10), "has an entry that runs into its directory"),
        (alter_directory(GOOD, FLAGS, 1, 2), "has a damaged or encrypted entry"),
        (STORED.replace(b"1,2,3", b"1,2,4", 1), "does not match its own CRC-32"),
        (build_zip_with_extra(b"more"), "does not end where it says"),
    ],
)
def test_everything_else_is_refused(content: bytes, told: str) -> None:
    """The error is one line with the name of the zip."""
    with pytest.raises(MalformedDataError) as caught:
        read_only_entry(content, "x.csv", 10_000, "x.zip")
    assert told in str(caught.value)
    assert str(caught.value).startswith("x.zip")


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 7))
def test_a_flipped_bit_never_changes_what_comes_out(at: int, bit: int) -> None:
    """The zip is rejected, or the bit has no effect."""
    flipped = bytearray(GOOD)
    flipped[at] ^= 1 << bit
    with contextlib.suppress(MalformedDataError):
        assert read_only_entry(bytes(flipped), "x.csv", 10_000, "x.zip") == CSV


@given(st.integers(0, len(GOOD) - 1))
def test_a_zip_cut_anywhere_is_refused(size: int) -> None:
    """Truncation is the most frequent damage."""
    with pytest.raises(MalformedDataError):
        read_only_entry(GOOD[:size], "x.csv", 10_000, "x.zip")


def test_the_name_of_an_entry_may_be_utf8_that_does_not_say_so() -> None:
    """Some tools write a UTF-8 name without the flag of UTF-8."""
    name = "币安人生USDT-1h-2024-03.csv"
    assert read_only_entry(build_zip((name, CSV)), name, 10_000, "x.zip") == CSV
    unmarked = build_zip(("x" * len(name.encode()), CSV)).replace(b"x" * len(name.encode()), name.encode())
    assert read_only_entry(unmarked, name, 10_000, "x.zip") == CSV
    with pytest.raises(MalformedDataError, match="was expected"):
        read_only_entry(unmarked, "币-1h-2024-03.csv", 10_000, "x.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@pytest.mark.parametrize(
    "content",
    [
        b"0" * 3_000_000,
        b"".join(hashlib.sha256(bytes([number % 256, number // 256])).digest() for number in range(10_000)),
    ],
    ids=["compressible", "random"],
)
def test_a_large_entry_comes_in_bounded_blocks(
    content: bytes, method: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong CRC is detected before the last block."""
    monkeypatch.setattr(zip_file, "BLOCK_BYTES", 100_000)
    monkeypatch.setattr(zip_file, "_INPUT_BYTES", 40_000)
    zipped_content = build_zip(("x.csv", content), method=method)
    blocks = list(read_entry_blocks(zipped_content, "x.csv", 10**7, "x.zip"))
    assert b"".join(blocks) == content
    assert max(map(len, blocks)) <= 100_000
    at = zipped_content.rfind(b"PK\x01\x02") + 16
    broken = (
        zipped_content[:at]
        + bytes(byte ^ 255 for byte in zipped_content[at : at + 4])
        + zipped_content[at + 4 :]
    )
    got: list[bytes] = []
    with pytest.raises(MalformedDataError, match="CRC-32"):
        got.extend(read_entry_blocks(broken, "x.csv", 10**7, "x.zip"))
    assert sum(map(len, got)) < len(content)
