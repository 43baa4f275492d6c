"""The account of a session: its counts, its state after an end or a kill, and its recovery."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from capture_pipeline.checks.model import Verdict
from capture_pipeline.checks.recordings import DEFAULTS
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.lake.files import publish_model
from capture_pipeline.recorder.lifecycle import create_plan, prepare, read_plan, sessions_root, stop
from capture_pipeline.recorder.storage.recovery import recover_session
from capture_pipeline.sessions.account import (
    Account,
    AccountFile,
    AccountState,
    read_account,
)
from capture_pipeline.sessions.counts import ACCOUNT_PARTS
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Cause, Ending, TrackMark
from capture_pipeline.settings.models import Settings
from capture_pipeline_tests.support.sessions.desk import OTHERS, TRADES, Desk, lost_ids, recorded_ids
from capture_pipeline_tests.support.sessions.system_calls import Calls


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Create the settings of a deployment whose exchange receives no request."""
    return Settings.model_validate(
        {"venue": "sandbox", "sandbox_url": "http://127.0.0.1:9", "storage": {"root": tmp_path}}
    )


@pytest.fixture
def folder(settings: Settings) -> SessionFolder:
    return prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT", "ETHUSDT"], "custom", 3600))


def test_every_message_that_comes_in_is_accounted_for(folder: SessionFolder, settings: Settings) -> None:
    """The messages are recorded, duplicate, rejected, control, early or delayed ones, and snapshots."""
    desk = Desk(folder).start()
    desk.send(10, 20)
    desk.pipeline.merge.add_connection(2)
    desk.send(10, 12)
    for raw in (b"garbage", b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}'):
        desk.pipeline.receive(1, raw)
    desk.send(9, 9)
    desk.send(30, 30)
    desk.pipeline.record_unframed("btcusdt@depthSnapshot", b'{"lastUpdateId":1,"bids":[],"asks":[]}')
    assert desk.accounting.figures()["in_memory"] > 0
    desk.end()
    counts = desk.pipeline.counts
    assert counts.parts() | {"received": counts.received} == {
        **dict.fromkeys(ACCOUNT_PARTS, 0),
        "received": 19,
        "duplicates": 3,
        "rejected": 1,
        "control": 1,
        "early": 1,
    }
    assert counts.received == desk.pipeline.messages + counts.listed
    metadata = stop(folder, settings)
    assert metadata is not None
    assert metadata.statistics["accounting"]["difference"] == 0
    assert metadata.statistics["accounting"]["written"] == 13


def test_what_the_writer_has_no_room_for_at_the_end_is_listed_by_its_ids(
    folder: SessionFolder, settings: Settings
) -> None:
    """No later message shows the loss. One stream had earlier messages, the other none."""
    desk = Desk(folder, max_waiting_bytes=10)
    desk.send(1, 5)
    desk.send(6, 12)
    desk.send(1, 3, OTHERS)
    desk.pipeline.finish()
    assert desk.pipeline.counts.dropped_messages == 10
    desk.start()
    desk.end()
    # By the recorder itself, before anybody reads the recording again.
    assert lost_ids(folder, Cause.DISK) == set(range(6, 13))
    assert lost_ids(folder, Cause.DISK, stream=OTHERS) == {1, 2, 3}
    stop(folder, settings)
    assert recorded_ids(folder) == set(range(1, 6))
    assert lost_ids(folder, Cause.DISK) == set(range(6, 13))
    assert lost_ids(folder, Cause.DISK, stream=OTHERS) == {1, 2, 3}
    assert {gap.at_end for gap in read_gaps(folder.gaps)} == {True}
    report = validate(folder.path, replace(DEFAULTS, min_messages=1, duration_s=0.0))
    assert {name: report.check(name).verdict for name in ("ledger", "disk", "accounting")} == {
        "ledger": Verdict.PASS,
        "disk": Verdict.FAIL,
        "accounting": Verdict.PASS,
    }


def test_what_the_writer_had_no_room_for_at_the_start_is_listed_by_its_ids(
    folder: SessionFolder, settings: Settings
) -> None:
    """The first messages of a stream are dropped, and the stream continues."""
    desk = Desk(folder, max_waiting_bytes=10)
    desk.send(1, 5)
    desk.send(101, 110, OTHERS)
    desk.start()
    desk.writer.drain(10)
    desk.send(111, 120, OTHERS)
    desk.end()
    stop(folder, settings)
    assert recorded_ids(folder, OTHERS) | lost_ids(folder, Cause.DISK, stream=OTHERS) == set(range(101, 121))
    assert lost_ids(folder, Cause.DISK, stream=OTHERS) >= set(range(101, 111))
    report = validate(folder.path, replace(DEFAULTS, min_messages=1, duration_s=0.0))
    assert (report.check("ledger").verdict, report.check("disk").verdict) == (Verdict.PASS, Verdict.FAIL)
    assert "before the first message of a stream" in report.check("disk").reason


def leave_unwritten(folder: SessionFolder) -> Desk:
    """Run a recorder that ends while the disk refuses its last messages."""
    desk = Desk(folder).start()
    desk.send(1, 10)
    desk.writer.finish(10)
    desk.send(11, 25)
    desk.send(1, 5, OTHERS)
    desk.pipeline.finish()
    desk.accounting.close(1, is_written=False)
    return desk


@pytest.mark.parametrize("resumed", [False, True])
def test_what_was_never_written_is_listed_by_whoever_comes_next(
    resumed: bool, folder: SessionFolder, settings: Settings
) -> None:
    """The gap has the ids and the disk as cause, whether the session is finished or continued."""
    leave_unwritten(folder)
    if resumed:
        desk = Desk(folder, 1000).start()
        desk.send(31, 40)
        desk.end()
    metadata = stop(folder, settings)
    assert metadata is not None
    assert lost_ids(folder, Cause.DISK) == set(range(11, 31 if resumed else 26))
    assert lost_ids(folder, Cause.DISK, stream=OTHERS) == {1, 2, 3, 4, 5}
    account = metadata.statistics["accounting"]
    assert (account["unwritten"], account["difference"], account["end"]) == (
        20,
        0,
        "closed" if resumed else "unwritten",
    )
    report = validate(folder.path, replace(DEFAULTS, min_messages=1, duration_s=0.0))
    assert (report.check("accounting").verdict, report.check("disk").verdict) == (Verdict.PASS, Verdict.FAIL)


def test_a_ledger_that_could_not_be_written_is_not_written(
    folder: SessionFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a line of the ledger waits for a slow disk; its loss counts like the loss of a message."""
    calls, syncing = Calls(monkeypatch), threading.Event()

    def slow(line: str) -> None:
        if line == f"fsync {folder.growing.name}":
            syncing.set()
            time.sleep(0.5)

    calls.refuse = slow
    desk = Desk(folder).start()
    desk.send(1, 5)
    assert syncing.wait(10)
    gap = desk.pipeline.ledger.count_message(TRADES, 9, 9, desk.pipeline.ledger.last_times[TRADES])
    assert gap is not None
    desk.pipeline.write_gap_update(gap)
    assert not desk.writer.finish(0.05)
    assert not desk.writer.trouble


@pytest.mark.parametrize(
    ("state", "early_ns", "ending", "expected"),
    [
        (AccountState.CLOSED, 0, None, "complete"),
        (AccountState.CLOSED, 0, "complete", "complete"),
        (AccountState.CLOSED, 1, None, "interrupted"),
        (AccountState.CLOSED, 1, "complete", "interrupted"),
        (AccountState.UNWRITTEN, 0, None, "interrupted"),
        (AccountState.UNWRITTEN, 0, "complete", "interrupted"),
        (AccountState.OPEN, 0, "complete", "interrupted"),
        (None, 0, None, "interrupted"),
    ],
)
def test_only_a_recorder_that_wrote_all_completes_a_session(
    state: AccountState | None,
    early_ns: int,
    ending: str | None,
    expected: str,
    folder: SessionFolder,
    settings: Settings,
) -> None:
    """The recorder received until the planned end, and everything is on the disk."""
    past = read_plan(folder).model_copy(update={"start_us": 10**15})
    publish_model(folder.plan, past)
    desk = Desk(folder).start()
    desk.send(1, 10)
    desk.end(past.end_ns - early_ns)
    account = read_account(folder.account)
    assert account is not None
    if state is None:
        folder.account.unlink()
    else:
        AccountFile(folder.account, 2).write(account.model_copy(update={"state": state}))
    if ending is not None:
        publish_model(folder.ending, Ending(state=ending))
    prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT", "ETHUSDT"], "custom", 60, start_us=1))
    document = folder.metadata.read_text()
    assert f'"state": "{expected}"' in document
    assert not folder.account.exists()


def test_a_killed_recorder_leaves_what_is_unknown(folder: SessionFolder, settings: Settings) -> None:
    """The unknown period lasts from the last line to the next recorder."""
    desk = Desk(folder).start()
    desk.send(1, 10)
    desk.writer.finish(10)
    again = Desk(folder, 1000).start()
    again.send(21, 30)
    again.end()
    metadata = stop(folder, settings)
    assert metadata is not None
    account = metadata.statistics["accounting"]
    assert (account["received"], account["written"], account["difference"]) == (20, 20, 0)
    assert (account["killed"], account["processes"], account["end"]) == (1, 2, "closed")
    ((from_ns, to_ns),) = [tuple(one.values()) for one in account["unknown"]]
    assert 0 < from_ns < to_ns
    assert lost_ids(folder, Cause.PROCESS) == set(range(11, 21))


def test_a_recording_without_an_account_is_as_unknown_as_after_a_kill(
    folder: SessionFolder, settings: Settings
) -> None:
    """An older version recorded it, or the account was removed."""
    desk = Desk(folder).start()
    desk.send(1, 10)
    desk.end()
    folder.account.unlink()
    folder.checkpoint.unlink(missing_ok=True)
    again = Desk(folder, 1000).start()
    again.send(11, 20)
    again.end()
    metadata = stop(folder, settings)
    assert metadata is not None
    account = metadata.statistics["accounting"]
    assert (account["received"], account["written"], account["difference"], account["killed"]) == (
        20,
        20,
        0,
        1,
    )
    assert validate(folder.path).check("accounting").verdict is Verdict.SKIPPED


def test_a_torn_account_is_an_open_one(folder: SessionFolder) -> None:
    """The tear is that of a power loss during a write in place."""
    desk = Desk(folder).start()
    desk.send(1, 10)
    desk.end()
    folder.account.write_bytes(folder.account.read_bytes()[:100])
    state = recover_session(folder)
    assert state.account is not None
    assert (state.account.state, state.account.killed) == (AccountState.OPEN, 1)


def test_an_altered_recording_is_read_whole_again(folder: SessionFolder) -> None:
    """A checkpoint that still counts the removed lines is not used."""
    desk = Desk(folder).start()
    desk.send(1, 10)
    folder.growing.unlink()
    desk.wait_for_alterations()
    desk.send(11, 15)
    desk.end()
    place = {"segment": 2, "offset": folder.segment(2).stat().st_size}
    publish_model(
        folder.checkpoint,
        desk.pipeline.create_checkpoint(desk.pipeline.clock.last_ns).model_copy(update=place),
    )
    state = recover_session(folder)
    assert (state.messages, state.tracks[TRADES].first) == (5, 11)
    assert lost_ids(folder, Cause.FILE_REMOVED) == set(range(1, 11))


def test_an_account_has_room_for_every_stream(folder: SessionFolder) -> None:
    """The largest possible account fits into the allocated file."""
    streams = {
        f"{'x' * 20}{number}usdt@depth@100ms": {"first": 2**60, "last": 2**61, "messages": 2**50}
        for number in range(512)
    }
    rest = dict.fromkeys(("gaps", "lost", "duplicates", "overlaps", "last_ns", "last_event_us"), 2**62)
    file = AccountFile(folder.account, 512)
    file.allocate()
    size = folder.account.stat().st_size
    mark = recover_session(folder).checkpoint.model_copy(
        update={"tracks": {name: TrackMark(**ids, **rest) for name, ids in streams.items()}}
    )
    file.write(Account(state=AccountState.UNWRITTEN, mark=mark))
    assert folder.account.stat().st_size == size
