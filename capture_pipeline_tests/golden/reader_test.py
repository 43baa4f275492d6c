"""Tests of the reader of recordings: whole lines for any block size, and findings after a crash."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.sessions.recordings.reader import Recording, read_lines
from capture_pipeline.sessions.recordings.source import FindingKind
from capture_pipeline_tests.support.sessions.lines import packed, recording, trade, written


def read(path: Path, block_bytes: int = 2 << 20) -> tuple[list[bytes], Recording]:
    with Recording(path, block_bytes) as opened:
        return list(opened), opened


@given(a_member=st.integers(1, 30), block_bytes=st.integers(1, 5000), plain=st.booleans())
def test_blocks_are_whole_lines_and_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, a_member: int, block_bytes: int, plain: bool
) -> None:
    """All lines are returned in order, for any gzip members and any size of block.

    Size and SHA-256 are those of the file.
    """
    lines = recording(80)
    path = tmp_path_factory.mktemp("r") / "x.jsonl.gz"
    path.write_bytes(b"".join(lines) if plain else packed(lines, a_member))
    blocks, opened = read(path, block_bytes)
    assert b"".join(blocks) == b"".join(lines)
    assert all(block.endswith(b"\n") for block in blocks)
    assert not opened.findings
    assert (opened.size, opened.sha256) == (
        path.stat().st_size,
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    assert opened.members == (0 if plain else -(-len(lines) // a_member))


@given(a_member=st.integers(1, 30), block_bytes=st.integers(700, 5000), padding=st.sampled_from([0, 1024]))
def test_blocks_of_a_strict_reader_do_not_depend_on_members(
    tmp_path_factory: pytest.TempPathFactory, a_member: int, block_bytes: int, padding: int
) -> None:
    """A block ends with the last line that fits, followed by padding."""
    lines, found = recording(80), []
    folder = tmp_path_factory.mktemp("r")
    for name, content in (("plain", b"".join(lines)), ("packed", packed(lines, a_member))):
        (folder / name).write_bytes(content)
        with Recording(folder / name, block_bytes, is_strict=True, padding=padding) as opened:
            found.append(list(opened))
    assert found[0] == found[1]
    texts = [block[: len(block) - padding] for block in found[0]]
    assert b"".join(texts) == b"".join(lines)
    assert all(block.endswith(b"\n" + bytes(padding)) for block in found[0])
    for text, following in itertools.pairwise(texts):
        assert len(text) <= block_bytes < len(text) + following.index(b"\n") + 1


def test_members_that_end_inside_a_line_are_joined(tmp_path: Path) -> None:
    """Other tools write lines that continue in the next gzip member."""
    whole = b"".join(recording(40))
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(whole[:1234]) + gzip.compress(whole[1234:]))
    blocks, opened = read(path, 700)
    assert b"".join(blocks) == whole
    assert not opened.findings


def test_a_torn_tail_is_found_wherever_it_is_torn(tmp_path: Path) -> None:
    """The recording is cut at any byte of its last member.

    All lines before this member are returned, and the finding contains the byte at which it begins.
    """
    lines = recording(59)
    sound, last = packed(lines[:40]), packed(lines[40:])
    path = tmp_path / "x.jsonl.gz.part"
    for cut in range(1, len(last), 7):
        path.write_bytes(sound + last[:cut])
        blocks, opened = read(path)
        text = b"".join(blocks)
        assert text.startswith(b"".join(lines[:40]))
        assert b"".join(lines).startswith(text)
        assert (opened.findings[0].kind, opened.findings[0].offset) == (FindingKind.TORN_MEMBER, len(sound))


@pytest.mark.parametrize(
    ("tail", "kind"),
    [
        (b"\0" * 4096, FindingKind.ZERO_TAIL),
        (b"\0", FindingKind.ZERO_TAIL),
        (b"\0\0x", FindingKind.FOREIGN_BYTES),
        (b"{}\n", FindingKind.FOREIGN_BYTES),
    ],
)
def test_what_follows_the_last_member_is_told(tmp_path: Path, tail: bytes, kind: FindingKind) -> None:
    """Zeros, which gzip itself ignores, and foreign bytes are findings with their position."""
    lines = recording(40)
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(packed(lines) + tail)
    blocks, opened = read(path)
    assert b"".join(blocks) == b"".join(lines)
    assert [(finding.kind, finding.offset) for finding in opened.findings] == [(kind, len(packed(lines)))]


@pytest.mark.parametrize("content", [b"", b"\0" * 5000])
def test_a_file_of_nothing_is_told(tmp_path: Path, content: bytes) -> None:
    """An empty file and a file of zeros have no line and give a finding."""
    path = tmp_path / "x.jsonl.gz.part"
    path.write_bytes(content)
    blocks, opened = read(path)
    assert not blocks
    assert [finding.offset for finding in opened.findings] == [0]


def test_a_flipped_bit_is_found_by_the_crc(tmp_path: Path) -> None:
    """A member with a wrong CRC is reported with its byte, and the members before it are read."""
    lines = recording(60)
    members = [packed(lines[:20]), packed(lines[20:40]), packed(lines[40:])]
    spoiled = bytearray(members[1])
    spoiled[-7] ^= 1
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(members[0] + bytes(spoiled) + members[2])
    blocks, opened = read(path)
    assert b"".join(blocks).startswith(b"".join(lines[:20]))
    assert [(finding.kind, finding.offset) for finding in opened.findings] == [
        (FindingKind.DAMAGED_MEMBER, len(members[0]))
    ]
    assert opened.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_last_line_without_its_end_is_told(tmp_path: Path) -> None:
    """A torn last line is a finding and is available to the caller."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(trade(1, 1) + b'{"capture_ns":2')
    blocks, opened = read(path)
    assert b"".join(blocks) == trade(1, 1)
    assert (opened.findings[0].kind, opened.open_line) == (FindingKind.OPEN_LINE, b'{"capture_ns":2')


def test_reading_may_stop_anywhere(tmp_path: Path) -> None:
    """No thread remains after a reader stops early."""
    path = written(tmp_path / "x.jsonl.gz", recording(400))
    before = threading.active_count()
    with Recording(path, 100) as opened:
        next(iter(opened))
    assert threading.active_count() == before


def test_what_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    """A missing file is an error that names it."""
    with pytest.raises(MalformedDataError, match=r"none\.gz: cannot be opened"):
        list(read_lines(tmp_path / "none.gz"))


def test_lines_come_with_their_numbers_until_one_is_bad(tmp_path: Path) -> None:
    """An invalid line ends the reading with an error that contains its number."""
    path = written(tmp_path / "x.jsonl.gz", [trade(1, 1), trade(2, 2), b"{}\n"])
    lines = read_lines(path)
    assert [next(lines)[0], next(lines)[0]] == [1, 2]
    with pytest.raises(MalformedDataError, match="line 3"):
        next(lines)
