"""Gzip members: readable by every tool, with detection of every cut, flipped bit and zero."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.sessions.gzip_members import HEAD_BYTES, build_member, inflate_member, member_size
from capture_pipeline.sessions.recordings.source import DamagePolicy, FindingKind, Source

BATCHES = [b"".join(b'{"n":%d}\n' % (batch * 10 + line) for line in range(10)) for batch in range(4)]
MEMBERS = [build_member(lines, 10) for lines in BATCHES]
FILE = b"".join(MEMBERS)


def scan_bytes(content: bytes, start: int = 0) -> tuple[bytes, Source]:
    """Return the lines of the sound members of a file, and the source after the last one."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(content)
        with Source.open(Path(file.name), start, policy=DamagePolicy.SKIP) as found:
            return b"".join(found), found


def kinds(found: Source) -> list[FindingKind]:
    return [finding.kind for finding in found.findings]


def test_any_gzip_reader_reads_them() -> None:
    """All readers skip the extra field."""
    assert gzip.decompress(FILE) == b"".join(BATCHES)
    assert zlib.decompressobj(31).decompress(MEMBERS[0]) == BATCHES[0]


def test_a_member_knows_its_length_and_lines() -> None:
    """The next member is found without inflating this one."""
    assert member_size(FILE[:HEAD_BYTES]) == (len(MEMBERS[0]), 10)
    assert member_size(gzip.compress(b"x" * 100)) is None
    assert member_size(b"\x1f\x8b") is None


def test_the_same_lines_give_the_same_bytes() -> None:
    """A member contains no time of writing."""
    assert build_member(BATCHES[1], 10) == MEMBERS[1]


def test_a_sound_file_is_read_whole() -> None:
    """The scan returns all lines and reports no damage."""
    out, found = scan_bytes(FILE)
    assert out == b"".join(BATCHES)
    assert (found.findings, found.sound_end, out.count(b"\n"), found.members) == ([], len(FILE), 40, 4)


@given(st.integers(1, len(FILE) - 1))
def test_a_file_cut_anywhere_keeps_its_whole_members(size: int) -> None:
    """The scan reports the end of the whole members, and saves whole lines of the torn one."""
    out, found = scan_bytes(FILE[:size])
    whole = sum(1 for number in range(1, 5) if len(b"".join(MEMBERS[:number])) <= size)
    assert out == b"".join(BATCHES[:whole])
    assert found.sound_end == len(b"".join(MEMBERS[:whole]))
    assert (not found.findings) == (found.sound_end == size)
    assert b"".join(BATCHES).startswith(out + found.salvaged)
    assert not found.salvaged or found.salvaged.endswith(b"\n")


@given(st.integers(0, len(FILE) - 1), st.integers(0, 7))
def test_a_flipped_bit_costs_one_member_and_is_told(at: int, bit: int) -> None:
    """All returned lines were written, and damage in the middle does not hide later members."""
    flipped = bytearray(FILE)
    flipped[at] ^= 1 << bit
    out, found = scan_bytes(bytes(flipped))
    hit = next(number for number in range(4) if at < len(b"".join(MEMBERS[: number + 1])))
    kept = [lines for number, lines in enumerate(BATCHES) if number != hit]
    if out != b"".join(BATCHES):
        assert out == b"".join(kept)
        assert kinds(found) == [FindingKind.TORN_MEMBER if hit == 3 else FindingKind.DAMAGED_MEMBER]
        assert (found.findings[0].end is None) == (hit == 3)


@pytest.mark.parametrize("zeros", [1, 10, 5000])
def test_zeros_at_the_end_are_told(zeros: int) -> None:
    """A loss of power can leave such zeros; Python's gzip treats them as padding."""
    assert gzip.decompress(FILE + b"\0" * zeros) == b"".join(BATCHES)
    _, found = scan_bytes(FILE + b"\0" * zeros)
    assert (kinds(found), found.sound_end) == ([FindingKind.ZERO_TAIL], len(FILE))


def test_a_member_that_lies_about_its_lines_is_damage() -> None:
    """The count of lines is checked."""
    out, found = scan_bytes(MEMBERS[0] + build_member(BATCHES[1], 11) + MEMBERS[2])
    assert out == BATCHES[0] + BATCHES[2]
    assert kinds(found) == [FindingKind.DAMAGED_MEMBER]


def test_what_follows_a_member_in_its_length_is_no_member() -> None:
    """The scan refuses two members under one length, and lines without an end."""
    assert inflate_member(MEMBERS[0] + MEMBERS[1]) is None
    assert inflate_member(gzip.compress(b"no newline")) is None
    assert inflate_member(MEMBERS[0][:-1]) is None


def test_a_scan_can_start_at_any_member() -> None:
    """A scan starts at the position of a checkpoint."""
    out, found = scan_bytes(FILE, len(MEMBERS[0]))
    assert out == b"".join(BATCHES[1:])
    assert found.members == 3


def test_gzip_on_the_command_line_reads_them(tmp_path: Path) -> None:
    """Users have `gzip` and `zcat`."""
    import subprocess  # noqa: PLC0415

    path = tmp_path / "x.gz"
    path.write_bytes(FILE)
    assert subprocess.run(["gzip", "-dc", path], capture_output=True, check=True).stdout == b"".join(BATCHES)
