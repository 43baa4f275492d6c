"""Recovery of torn, zero-filled and damaged recordings, with a ledger that agrees with the data."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from capture_pipeline.errors import LakeError
from capture_pipeline.recorder.ordering.gap_tracker import GapBounds, MessageTime, gap_between
from capture_pipeline.recorder.storage.checkpoint import checkpoint_tracks
from capture_pipeline.recorder.storage.recovery import recover_session
from capture_pipeline.sessions.gap_ledger import read_gaps, read_gaps_strictly, write_gaps
from capture_pipeline.sessions.gzip_members import build_member
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Cause, Checkpoint, TrackMark

TRADES, DEPTH = "btcusdt@trade", "btcusdt@depth@100ms"


def line(number: int) -> bytes:
    """Build a trade for even numbers, and a diff of 10 ids for odd ones."""
    half = number // 2
    stream, data = TRADES, b'{"e":"trade","E":1,"t":%d,"b":5,"a":6}' % half
    if number % 2:
        stream, data = (
            DEPTH,
            b'{"e":"depthUpdate","E":1,"U":%d,"u":%d,"b":[],"a":[["1.0","2.0"]]}'
            % (half * 10, half * 10 + 9),
        )
    return b'{"capture_ns":%d,"stream":"%b","data":%b}\n' % (1000 + number, stream.encode(), data)


def batch(first: int, count: int = 10) -> tuple[bytes, bytes]:
    """Build lines and their member."""
    lines = b"".join(line(number) for number in range(first, first + count))
    return lines, build_member(lines, count)


@pytest.fixture
def folder(tmp_path: Path) -> SessionFolder:
    path = tmp_path / "20260803T143000Z_btcusdt"
    path.mkdir()
    return SessionFolder(path)


def read_lines(folder: SessionFolder) -> bytes:
    """Return the lines that a gzip reader reads."""
    return gzip.decompress(folder.growing.read_bytes())


def test_nothing_there_is_a_fresh_start(folder: SessionFolder) -> None:
    """No file is created."""
    state = recover_session(folder)
    assert (state.segment, state.last_ns, state.tracks, state.repairs) == (1, 0, {}, [])


def test_a_sound_recording_is_taken_up_as_it_is(folder: SessionFolder) -> None:
    """The state contains the ids and times of the last messages."""
    content = batch(0)[1] + batch(10)[1]
    folder.growing.write_bytes(content)
    state = recover_session(folder)
    assert folder.growing.read_bytes() == content
    assert (state.tracks[TRADES].last, state.tracks[DEPTH].last, state.last_ns) == (9, 99, 1019)
    assert not state.repairs


@pytest.mark.parametrize("cut", [1, 9, 30, 80, 120])
def test_a_torn_tail_is_kept_apart_and_what_is_whole_of_it_saved(folder: SessionFolder, cut: int) -> None:
    """Afterwards the file can be appended to and read by any reader."""
    first, second = batch(0), batch(10)
    folder.growing.write_bytes(first[1] + second[1][:-cut])
    state = recover_session(folder)
    lines = read_lines(folder)
    assert lines.startswith(first[0])
    assert (first[0] + second[0]).startswith(lines)
    assert next(folder.quarantine.iterdir()).read_bytes() == second[1][:-cut]
    assert state.tracks[TRADES].last == lines.count(b"@trade") - 1
    assert len(state.repairs) == 1
    assert not recover_session(folder).repairs


def test_a_tail_of_zeros_is_cut_off(folder: SessionFolder) -> None:
    """A loss of power can leave such zeros."""
    lines, member = batch(0)
    folder.growing.write_bytes(member + b"\0" * 4096)
    state = recover_session(folder)
    assert folder.growing.read_bytes() == member
    assert "zeros" in state.repairs[0]
    assert read_lines(folder) == lines


def test_damage_in_the_middle_is_set_aside_and_becomes_a_gap(folder: SessionFolder) -> None:
    """The recorder logs an event and moves the bytes to the quarantine.

    The ledger lists the lost ids with the disk as cause.
    """
    parts = [batch(0), batch(10), batch(20)]
    bad = bytearray(parts[1][1])
    bad[60] ^= 1
    folder.growing.write_bytes(parts[0][1] + bytes(bad) + parts[2][1])
    state = recover_session(folder)
    assert read_lines(folder) == parts[0][0] + parts[2][0]
    assert next(folder.quarantine.iterdir()).read_bytes() == bytes(bad)
    assert "damaged" in state.repairs[0]
    gaps = {gap.stream: gap for gap in read_gaps(folder.gaps)}
    assert (gaps[TRADES].last_good_id, gaps[TRADES].first_good_id, gaps[TRADES].ids_lost) == (4, 10, 5)
    assert gaps[DEPTH].ids_lost == 50
    assert {gap.cause for gap in gaps.values()} == {Cause.DISK}


def test_a_checkpoint_spares_the_scan_before_it_and_keeps_its_counts(folder: SessionFolder) -> None:
    """The lines before the checkpoint are not read."""
    parts = [batch(0), batch(10)]
    folder.growing.write_bytes(parts[0][1] + parts[1][1])
    whole = recover_session(folder)
    broken = bytearray(parts[0][1] + parts[1][1])
    broken[50] ^= 1
    before = resume_of(parts[0][1], folder)
    mark = Checkpoint(offset=len(parts[0][1]), last_ns=1009, tracks=before, counts={"ended by silence": 3})
    folder.growing.write_bytes(bytes(broken))
    folder.checkpoint.write_text(mark.model_dump_json())
    state = recover_session(folder)
    assert state.tracks == whole.tracks
    assert state.checkpoint.counts == {"ended by silence": 3}
    assert not state.repairs
    assert recover_session(folder, whole=True).repairs


def resume_of(content: bytes, folder: SessionFolder) -> dict[str, TrackMark]:
    """Return the tracks of a recording."""
    folder.growing.write_bytes(content)
    state = recover_session(folder)
    return checkpoint_tracks(state.tracks, state.last_times)


@pytest.mark.parametrize("offset", [7, 10_000])
def test_a_checkpoint_that_does_not_fit_the_file_is_not_believed(folder: SessionFolder, offset: int) -> None:
    """The whole file is scanned instead, and nothing is cut off."""
    content = batch(0)[1] + batch(10)[1]
    tracks = resume_of(batch(0)[1], folder)
    folder.growing.write_bytes(content)
    folder.checkpoint.write_text(Checkpoint(offset=offset, last_ns=1009, tracks=tracks).model_dump_json())
    state = recover_session(folder)
    assert folder.growing.read_bytes() == content
    assert state.tracks[TRADES].last == 9


def test_a_gap_whose_later_edge_is_not_in_the_data_leaves_the_ledger(folder: SessionFolder) -> None:
    """The ledger is written before the data, so a crash leaves a gap too many, never one too few."""
    folder.growing.write_bytes(batch(0)[1] + batch(20)[1])
    there = gap_between(GapBounds(TRADES, 4, 10, MessageTime(1008), MessageTime(1020)), Cause.SILENCE, "")
    there_too = gap_between(
        GapBounds(DEPTH, 49, 100, MessageTime(1009), MessageTime(1021)), Cause.SILENCE, ""
    )
    ahead = gap_between(GapBounds(TRADES, 14, 40, MessageTime(1028), MessageTime(2000)), Cause.SILENCE, "")
    write_gaps(folder.gaps, [there, there_too, ahead])
    recover_session(folder)
    assert read_gaps(folder.gaps) == [there, there_too]


def test_a_gap_that_was_filled_supersedes_its_first_line(folder: SessionFolder) -> None:
    """A torn last line of the ledger is ignored."""
    gap = gap_between(GapBounds(TRADES, 4, 10, MessageTime(1008), MessageTime(1020)), Cause.SILENCE, "")
    filled = gap.model_copy(update={"filled_by": "refilled_trades.jsonl"})
    folder.gaps.write_text(gap.model_dump_json() + "\n" + filled.model_dump_json() + '\n{"stream":"x"')
    assert read_gaps(folder.gaps) == read_gaps_strictly(folder.gaps) == [filled]


def test_half_a_line_of_the_ledger_is_cut_off_before_another_follows(folder: SessionFolder) -> None:
    """Otherwise the next line would be joined to the torn one."""
    folder.growing.write_bytes(batch(0)[1])
    folder.gaps.write_text('{"stream":"x"')
    recover_session(folder)
    assert folder.gaps.read_bytes() == b""


def test_a_line_that_is_no_gap_is_left_out_or_told(folder: SessionFolder) -> None:
    """A recorder ignores the line; a strict reader reports its number."""
    gap = gap_between(GapBounds(TRADES, 4, 10, MessageTime(1008), MessageTime(1020)), Cause.SILENCE, "")
    folder.gaps.write_text(gap.model_dump_json() + "\n{}\n")
    assert read_gaps(folder.gaps) == [gap]
    with pytest.raises(LakeError, match="line 2 is not a gap"):
        read_gaps_strictly(folder.gaps)


def test_later_segments_go_on_behind_the_first(folder: SessionFolder) -> None:
    """A second segment exists only after a failed fsync."""
    folder.growing.write_bytes(batch(0)[1])
    folder.segment(2).write_bytes(batch(10)[1])
    state = recover_session(folder)
    assert state.segment == 2
    assert state.tracks[TRADES].last == 9
    assert not read_gaps(folder.gaps)


def test_lines_of_the_recording_have_the_documented_form() -> None:
    """The lines of this test have the form that a recorder writes."""
    parsed = json.loads(line(3))
    assert list(parsed) == ["capture_ns", "stream", "data"]
