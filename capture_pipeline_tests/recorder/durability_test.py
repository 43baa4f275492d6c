"""Order of writes and flushes of a recorder, which makes its data durable."""

from __future__ import annotations

import errno
from dataclasses import asdict
from pathlib import Path

import pytest

from capture_pipeline.recorder.lifecycle import create_plan, prepare, sessions_root, stop
from capture_pipeline.recorder.ordering.gap_tracker import GapBounds, MessageTime, gap_between
from capture_pipeline.recorder.storage.event_log import append_line
from capture_pipeline.recorder.storage.journal import Journal
from capture_pipeline.recorder.storage.recovery import recover_session
from capture_pipeline.recorder.storage.writer import Batch, Writer
from capture_pipeline.sessions.account import Account, AccountFile, AccountState
from capture_pipeline.sessions.continuity import Track
from capture_pipeline.sessions.gzip_members import build_member
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Cause, Checkpoint, TrackMark
from capture_pipeline.settings.models import Settings
from capture_pipeline_tests.support.sessions.system_calls import Calls

PART, SECOND, WHOLE = (f"btcusdt_capture_20260803T143000Z.jsonl.gz{end}" for end in (".part", ".part2", ""))
LINE = b'{"capture_ns":%d,"stream":"btcusdt@trade","data":{"e":"trade","E":1,"t":%d}}\n'
GAP = gap_between(GapBounds("btcusdt@trade", 4, 10, MessageTime(1008), MessageTime(1020)), Cause.SILENCE, "")


@pytest.fixture
def folder(tmp_path: Path) -> SessionFolder:
    path = tmp_path / "20260803T143000Z_btcusdt"
    path.mkdir()
    return SessionFolder(path)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def batch(number: int, mark: Checkpoint | None = None) -> Batch:
    return Batch(LINE % (number, number), 1, [], mark)


def create_writer(folder: SessionFolder) -> Writer:
    """Create a writer that flushes after each batch."""
    return Writer(folder, segment=1, max_waiting_bytes=1 << 20, fsync_s=0.0)


def run_writer(writer: Writer) -> None:
    """Run a writer to its end."""
    writer.end()
    writer.run()
    assert writer.failure is None


def test_a_new_part_is_in_its_folder_for_good(folder: SessionFolder, calls: Calls) -> None:
    """The name of a file is durable once its folder is flushed."""
    Journal(folder.growing).close()
    assert calls == [f"create {PART}", f"fsync {folder.session}"]


def test_data_are_flushed_before_the_checkpoint_that_counts_them(folder: SessionFolder, calls: Calls) -> None:
    """The ledger is written first, both are flushed, and then the checkpoint is published."""
    writer = create_writer(folder)
    calls.clear()
    writer.put(
        Batch(
            LINE % (1, 1),
            1,
            [GAP],
            Checkpoint(
                lines=1, tracks={"btcusdt@trade": TrackMark(**asdict(Track()), last_ns=0, last_event_us=0)}
            ),
        )
    )
    run_writer(writer)
    assert calls == [
        "create gaps.jsonl",
        "write gaps.jsonl",
        f"write {PART}",
        f"fsync {PART}",
        "fsync gaps.jsonl",
        f"fsync {folder.session}",
        "fsync checkpoint.json.tmp",
        "rename checkpoint.json.tmp checkpoint.json",
        f"fsync {folder.session}",
    ]


@pytest.mark.parametrize("refused", [f"fsync {PART}", "fsync gaps.jsonl"])
def test_behind_a_failed_fsync_nothing_goes_into_that_file(
    refused: str, folder: SessionFolder, calls: Calls
) -> None:
    """The fsync is not repeated, because the content on the disk is unknown; a second part is started."""
    writer = create_writer(folder)
    append_line(folder.gaps, GAP.model_dump_json() + "\n")
    calls.refuse = lambda line: (
        OSError(errno.EIO, "planted") if line == refused and not folder.segment(2).exists() else None
    )
    writer.put(batch(1, Checkpoint(lines=1)))
    writer.put(batch(2))
    run_writer(writer)
    assert [line for line in calls.of(PART, SECOND) if line.startswith("write")] == [
        f"write {PART}",
        f"write {SECOND}",
    ]
    assert calls.count(f"fsync {PART}") + calls.count(f"fsync {PART} refused") == 1
    assert (writer.segment, len(writer.suspects)) == (2, 1)
    behind = calls[calls.index(f"{refused} refused") :]
    assert behind.index(f"fsync {SECOND}") < behind.index("rename checkpoint.json.tmp checkpoint.json")


def test_what_was_cut_off_stays_cut_off(folder: SessionFolder, calls: Calls) -> None:
    """The tail is copied first, and the shorter file is flushed before an append."""
    sound = build_member(LINE % (1, 1), 1)
    folder.growing.write_bytes(sound + build_member(LINE % (2, 2), 1)[:20])
    calls.clear()
    recover_session(folder)
    place = calls.index(f"truncate {PART}")
    assert any(line.startswith("rename") and "torn" in line for line in calls[:place])
    assert calls[place + 1] == f"fsync {PART}"


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[SessionFolder, Settings]:
    settings = Settings.model_validate(
        {"venue": "sandbox", "sandbox_url": "http://127.0.0.1:9", "storage": {"root": tmp_path}}
    )
    plan = create_plan(settings, ["BTCUSDT"], "custom", 60, start_us=1_785_767_400_000_000)
    return prepare(sessions_root(settings), plan), settings


def test_a_recording_gets_its_name_durably(prepared: tuple[SessionFolder, Settings], calls: Calls) -> None:
    """The file is flushed before the rename, and its folder after it; checksums and metadata follow."""
    folder, settings = prepared
    folder.growing.write_bytes(build_member(LINE % (1, 1), 1))
    calls.clear()
    stop(folder, settings)
    place = calls.index(f"rename {folder.growing.name} {folder.recording.name}")
    assert calls[place - 1] == f"fsync {folder.growing.name}"
    assert calls[place + 1] == f"fsync {folder.session}"
    published = [line.split()[2] for line in calls if line.startswith("rename")]
    assert published[-3:] == [folder.recording.name, "checksums.txt", "metadata.json"]
    for name in published[-2:]:
        at = calls.index(f"rename {name}.tmp {name}")
        assert (calls[at - 1], calls[at + 1]) == (f"fsync {name}.tmp", f"fsync {folder.session}")


def test_parts_are_removed_once_the_whole_is_durable(
    prepared: tuple[SessionFolder, Settings], calls: Calls
) -> None:
    """A loss of power leaves the parts or the whole file."""
    folder, settings = prepared
    for number in (1, 2):
        folder.segment(number).write_bytes(build_member(LINE % (number, number), 1))
    calls.clear()
    stop(folder, settings)
    name = folder.recording.name
    place = calls.index(f"rename {name}.tmp {name}")
    assert (calls[place - 1], calls[place + 1]) == (f"fsync {name}.tmp", f"fsync {folder.session}")
    gone = [
        place
        for place, line in enumerate(calls)
        if line in {f"unlink {folder.segment(number).name}" for number in (1, 2)}
    ]
    assert len(gone) == 2
    assert min(gone) > place + 1


def test_an_account_is_durable(folder: SessionFolder, calls: Calls) -> None:
    """Its allocation and each of its states are flushed."""
    file = AccountFile(folder.account, 1)
    file.allocate()
    assert calls == [
        "create account.json",
        "write account.json",
        "fsync account.json",
        f"fsync {folder.session}",
    ]
    calls.clear()
    file.write(Account(state=AccountState.OPEN))
    assert calls == ["pwrite account.json", "fsync account.json"]
    size = folder.account.stat().st_size
    file.write(Account(state=AccountState.CLOSED, trouble="y" * 500))
    assert folder.account.stat().st_size == size
