"""Losses that no later message shows: damage removed the last messages of a stream."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from capture_pipeline.checks.model import Severity, Verdict
from capture_pipeline.checks.recordings import DEFAULTS
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.lake.files import publish_model
from capture_pipeline.recorder.lifecycle import create_plan, prepare, sessions_root, stop
from capture_pipeline.recorder.ordering.gap_tracker import Ledger, MessageTime
from capture_pipeline.recorder.storage.checkpoint import checkpoint_tracks
from capture_pipeline.recorder.storage.event_log import append_line
from capture_pipeline.recorder.storage.recovery import recover_session
from capture_pipeline.recorder.storage.tail_losses import find_lost_ends
from capture_pipeline.sessions.continuity import Track
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.gzip_members import build_member
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Cause, Checkpoint, Gap
from capture_pipeline.settings.models import Settings

TRADES, OTHERS = "btcusdt@trade", "ethusdt@trade"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Create the settings of a deployment whose exchange receives no request."""
    return Settings.model_validate(
        {"venue": "sandbox", "sandbox_url": "http://127.0.0.1:9", "storage": {"root": tmp_path}}
    )


@pytest.fixture
def folder(settings: Settings) -> SessionFolder:
    """Prepare a session of one hour."""
    return prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT", "ETHUSDT"], "custom", 3600))


def member(stream: str, first: int, count: int = 10) -> bytes:
    """Build a member of trades whose capture time is the id."""
    form = b'{"capture_ns":%d,"stream":"%b","data":{"e":"trade","E":%d,"t":%d}}\n'
    return build_member(
        b"".join(form % (number, stream.encode(), number, number) for number in range(first, first + count)),
        count,
    )


def damage_member(part: bytes) -> bytes:
    """Return a member that is damaged."""
    return part[:40] + bytes([part[40] ^ 1]) + part[41:]


def write_recording(folder: SessionFolder, parts: list[bytes]) -> None:
    """Write a valid recording with its checkpoint, as a recorder leaves it."""
    folder.checkpoint.unlink(missing_ok=True)
    folder.growing.write_bytes(b"".join(parts))
    state = recover_session(folder, whole=True)
    tracks = checkpoint_tracks(state.tracks, state.last_times)
    publish_model(
        folder.checkpoint,
        Checkpoint(offset=folder.growing.stat().st_size, last_ns=state.last_ns, tracks=tracks),
    )


def summarize(gap: Gap) -> tuple[str, int, int, bool]:
    return gap.stream, gap.last_good_id, gap.first_good_id, gap.at_end


def test_what_damage_took_of_the_end_of_a_stream_is_listed_and_fails_the_disk(
    folder: SessionFolder, settings: Settings
) -> None:
    """The last messages were in the middle of the file, before those of other streams."""
    parts = [member(TRADES, 1), member(TRADES, 11), member(OTHERS, 21)]
    write_recording(folder, parts)
    folder.growing.write_bytes(parts[0] + damage_member(parts[1]) + parts[2])
    assert stop(folder, settings) is not None
    (gap,) = read_gaps(folder.gaps)
    assert summarize(gap) == (TRADES, 10, 21, True)
    assert (gap.ids_lost, gap.cause, gap.start_ns, gap.end_ns, gap.recoverable) == (
        10,
        Cause.DISK,
        10,
        20,
        False,
    )
    report = validate(folder.path, replace(DEFAULTS, min_messages=1))
    assert (report.check("ledger").verdict, report.check("disk").verdict) == (Verdict.PASS, Verdict.FAIL)
    assert report.check("disk").spec.severity is Severity.ERROR
    assert report.check("disk").figures["lost_at_end"] == [(TRADES, 10, 21)]
    for name in ("ledger", "disk"):
        assert "1 after the last message of a stream: btcusdt@trade 10..21" in report.check(name).reason
    statistics = json.loads(folder.metadata.read_bytes())["statistics"]
    assert (statistics["ids_lost"], statistics["messages"]) == (10, 20)


@pytest.mark.parametrize("left", [0, 1])
def test_a_recording_that_ends_before_its_checkpoint_is_told(
    left: int, folder: SessionFolder, settings: Settings
) -> None:
    """The checkpoint counts flushed messages of each stream that are gone.

    In one case the whole file is gone.
    """
    parts = [member(TRADES, 1), member(TRADES, 11), member(OTHERS, 21)]
    write_recording(folder, parts)
    folder.growing.write_bytes(b"".join(parts[:left]))
    if not left:
        folder.growing.unlink()
    recover_session(folder)
    expected = [(TRADES, 10 * left, 21, True), (OTHERS, 20, 31, True)]
    assert [summarize(gap) for gap in read_gaps(folder.gaps)] == expected
    stop(folder, settings)
    assert [summarize(gap) for gap in read_gaps(folder.gaps)] == expected


def test_the_next_message_says_where_the_gap_ends(folder: SessionFolder, settings: Settings) -> None:
    """The line of the next message replaces the open line, also when the session is finished."""
    write_recording(folder, [member(TRADES, 1), member(TRADES, 11)])
    folder.growing.write_bytes(member(TRADES, 1))
    state = recover_session(folder)
    assert [summarize(gap) for gap in read_gaps(folder.gaps)] == [(TRADES, 10, 21, True)]
    ledger = Ledger()
    ledger.resume(TRADES, state.tracks[TRADES], state.last_times[TRADES])
    gap = ledger.count_message(TRADES, 25, 25, MessageTime(25))
    assert gap is not None
    append_line(folder.gaps, gap.model_dump_json() + "\n")
    folder.growing.write_bytes(member(TRADES, 1) + member(TRADES, 25))
    stop(folder, settings)
    assert [summarize(gap) for gap in read_gaps(folder.gaps)] == [(TRADES, 10, 25, False)]
    assert validate(folder.path).check("disk").verdict is Verdict.PASS


def test_an_open_line_outlives_later_checkpoints(folder: SessionFolder, settings: Settings) -> None:
    """Later checkpoints count only the remaining ids of the stream."""
    write_recording(folder, [member(TRADES, 1), member(TRADES, 11)])
    folder.growing.write_bytes(member(TRADES, 1))
    recover_session(folder)
    write_recording(folder, [member(TRADES, 1), member(OTHERS, 40)])
    recover_session(folder)
    stop(folder, settings)
    assert [summarize(gap) for gap in read_gaps(folder.gaps)] == [(TRADES, 10, 21, True)]


def test_an_open_line_goes_where_the_data_go_on(folder: SessionFolder) -> None:
    """The next message of the stream was the next id, so nothing is lost."""
    write_recording(folder, [member(TRADES, 1), member(TRADES, 11)])
    folder.growing.write_bytes(member(TRADES, 1))
    recover_session(folder)
    write_recording(folder, [member(TRADES, 1), member(TRADES, 11, 4)])
    recover_session(folder)
    assert not read_gaps(folder.gaps)


@pytest.mark.parametrize(
    ("scanned", "last_ns", "lost"),
    [
        (Track(first=1, last=20), 20, []),
        (Track(first=1, last=19), 19, [(TRADES, 19, 21, True)]),
        (Track(first=1, last=25), 25, []),
        (Track(first=1, last=3), 30, []),
    ],
)
def test_only_what_a_checkpoint_counted_is_lost(
    scanned: Track, last_ns: int, lost: list[tuple[str, int, int, bool]]
) -> None:
    """Nothing is lost if the data reach as far, or if a later message has a lower id after a reset."""
    mark = Checkpoint(
        tracks=checkpoint_tracks({TRADES: Track(first=1, last=20)}, {TRADES: MessageTime(20, 5)})
    )
    assert [
        summarize(gap) for gap in find_lost_ends(mark, {TRADES: scanned}, {TRADES: MessageTime(last_ns)})
    ] == lost


def test_a_stream_without_ids_is_no_loss() -> None:
    """A checkpoint counts its messages and has no ids."""
    mark = Checkpoint(tracks=checkpoint_tracks({TRADES: Track(messages=3)}, {TRADES: MessageTime(20)}))
    assert not find_lost_ends(mark, {}, {})


def test_lines_of_a_torn_tail_that_nothing_follows_fail_the_disk(
    folder: SessionFolder, settings: Settings
) -> None:
    """A member states its count of lines; lines that could not be saved are counted at the finish."""
    folder.growing.write_bytes(member(TRADES, 1) + member(TRADES, 11)[:-30])
    stop(folder, settings)
    statistics = json.loads(folder.metadata.read_bytes())["statistics"]
    assert 0 < statistics["torn_lines"] == 20 - statistics["messages"]
    check = validate(folder.path).check("disk")
    assert check.verdict is Verdict.FAIL
    assert f"{statistics['torn_lines']} lines of a torn tail lost at the end" in check.reason
