"""Every received message is recorded, a duplicate, or listed, also if the disk is full at the end."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from capture_pipeline.checks.model import Verdict
from capture_pipeline.checks.recordings import DEFAULTS
from capture_pipeline.cli.session.view import session_document
from capture_pipeline.golden.validation.report import Report
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.recorder.lifecycle import create_plan, list_open_sessions, prepare, sessions_root, stop
from capture_pipeline.sessions.account import Account, AccountFile, AccountState, read_account
from capture_pipeline.sessions.counts import ACCOUNT_PARTS
from capture_pipeline.sessions.models import Cause, Checkpoint, SessionMetadata
from capture_pipeline_tests.support.sessions.mounts import mount_tmpfs
from capture_pipeline_tests.support.sessions.recorder import Live, live

pytestmark = pytest.mark.slow

SHORT = replace(DEFAULTS, min_messages=1, duration_s=0.1, duration_tolerance_s=0.0, end_tolerance_s=0.5)


def fill(session: Live) -> None:
    """Fill the disk of the recording with a real limit on the size of the recorder's files."""
    assert session.process is not None
    # What remains has to be enough for its status and its account.
    session.wait(lambda status: status.file_bytes > 8_000)
    size = session.folder.growing.stat().st_size
    resource.prlimit(session.process.pid, resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))


def closed_account(metadata: SessionMetadata) -> dict[str, Any]:
    """Return the account of a finished session after a check that it is closed."""
    account: dict[str, Any] = metadata.statistics["accounting"]
    assert account["received"] == account["written"] + sum(account[name] for name in ACCOUNT_PARTS)
    assert (account["difference"], account["written"]) == (0, metadata.statistics["messages"])
    return account


def verdicts(report: Report, *names: str) -> dict[str, Verdict]:
    return {name: report.check(name).verdict for name in names}


def finish_by_start(session: Live) -> None:
    """Finish the session by the same command, which finds that its time is over."""
    settings = session.sandbox.deployment.settings
    prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT"], "custom", 60, start_us=1))


def finish_by_recorder(session: Live) -> None:
    """Finish the session by a new recorder, as Dagster starts one."""
    session.start()
    assert session.wait_for_end()[0] == 0


def finish_by_stop(session: Live) -> None:
    stop(session.folder, session.sandbox.deployment.settings)


def test_a_disk_that_is_full_at_the_end_loses_nothing_in_silence(tmp_path: Path) -> None:
    """The session stays open and reports why; the next process lists the ids that were never written."""
    with live(tmp_path, seconds=10, speed=60) as session:
        session.start(CAPTURE_RECORDING_PATIENCE_S="0.2")
        session.recording()
        fill(session)
        code, output = session.wait_for_end()
        assert code == 2, output
        assert "messages that could not be written" in output
        assert not session.folder.metadata.exists()
        account = read_account(session.folder.account)
        assert account is not None
        assert (account.state, account.trouble != "") == (AccountState.UNWRITTEN, True)
        assert session_document(session.folder)["state"] == "ended, not finished"
        left = shutil.copytree(session.folder.path, tmp_path / "left")
        for again in (finish_by_start, finish_by_recorder, finish_by_stop):
            shutil.rmtree(session.folder.path)
            shutil.copytree(left, session.folder.path)
            again(session)
            _check_unwritten(session, account)


def _check_unwritten(session: Live, account: Account) -> None:
    closed = closed_account(session.metadata)
    assert closed["unwritten"] > 20
    assert session.metadata.state == "interrupted"
    session.check_ids()
    ends = {gap.stream: gap for gap in session.gaps if gap.at_end}
    assert {gap.cause for gap in ends.values()} == {Cause.DISK}
    assert {stream: gap.first_good_id - 1 for stream, gap in ends.items()} == {
        stream: account.mark.tracks[stream].last for stream in session.metadata.plan.streams
    }
    assert session.metadata.statistics["ids_lost"] == sum(gap.ids_lost for gap in session.gaps) > 0
    assert session.metadata.statistics["uptime_percent"] < 100
    report = validate(session.folder.path, SHORT)
    expected = {
        "accounting": Verdict.PASS,
        "disk": Verdict.FAIL,
        "ledger": Verdict.PASS,
        "checksums": Verdict.PASS,
    }
    assert verdicts(report, *expected) == expected
    assert report.verdict is Verdict.FAIL
    # What it recorded stops before the end that was planned, whatever the other thresholds are.
    assert report.check("duration").verdict is Verdict.FAIL
    assert "before the planned end, at most 0.5 s are allowed" in report.check("duration").reason


def test_a_sound_session_is_complete_and_its_account_is_closed(tmp_path: Path) -> None:
    """Two connections deliver each message twice; strays, rejected and control messages are counted too."""
    with live(tmp_path, seconds=10) as session:
        session.sandbox.faults({"fault": "ws_duplicate", "every": 7, "times": "always"})
        session.start()
        status = session.recording()
        assert status.account["received"] >= status.account["written"]
        session.wait(lambda status: status.account["written"] > 50)
        assert session.wait_for_end()[0] == 0
        assert session.metadata.state == "complete"
        account = closed_account(session.metadata)
        assert account["duplicates"] > account["written"] / 2
        assert (account["killed"], account["processes"], account["end"]) == (0, 1, "closed")
        assert not session.folder.account.exists()
        status = session.status()  # type: ignore[assignment]
        assert status.account["received"] == account["received"]
        assert verdicts(validate(session.folder.path, SHORT), "accounting", "duration") == {
            "accounting": Verdict.PASS,
            "duration": Verdict.PASS,
        }


def test_a_full_disk_before_an_interruption_is_taken_up(tmp_path: Path) -> None:
    """SIGTERM during a full disk: the next recorder continues, and the gap has the disk as cause."""
    with live(tmp_path, speed=60) as session:
        session.start(CAPTURE_RECORDING_PATIENCE_S="0.2")
        session.recording()
        fill(session)
        session.wait(lambda status: status.state == "disk" and status.waiting_bytes > 10_000)
        assert session.process is not None
        session.process.send_signal(signal.SIGTERM)
        assert session.wait_for_end()[0] == 2
        session.start()
        session.recording()
        session.wait(lambda status: status.gaps >= 2)
        session.finish()
        assert {gap.cause for gap in session.gaps} == {Cause.DISK}
        account = closed_account(session.metadata)
        assert account["unwritten"] > 0
        assert (account["killed"], account["processes"], account["end"]) == (0, 2, "closed")


def test_what_a_killed_recorder_took_is_said_to_be_unknown(tmp_path: Path) -> None:
    """After a kill in the middle, the ledger has the ids.

    After a kill at the end, the account is not closed.
    """
    with live(tmp_path) as session:
        session.start()
        session.recording()
        session.kill()
        session.start()
        session.recording()
        session.end()
        account = closed_account(session.metadata)
        assert (account["killed"], account["processes"], account["end"]) == (1, 2, "closed")
        (unknown,) = account["unknown"]
        assert 0 < unknown["from_ns"] < unknown["to_ns"] < time.time_ns()
        check = validate(session.folder.path, SHORT).check("accounting")
        assert check.verdict is Verdict.SKIPPED
        assert "1 recorders were killed" in check.reason


def test_a_recorder_killed_behind_its_deadline_completes_nothing(tmp_path: Path) -> None:
    """The recorder waited for a full disk, so its messages are lost and the session is not complete."""
    with live(tmp_path, seconds=10, speed=60) as session:
        session.start(CAPTURE_RECORDING_PATIENCE_S="60")
        session.recording()
        fill(session)
        session.wait(
            lambda status: status.updated_ns > status.ends_us * 1000 - 10**9 and status.state == "disk"
        )
        while time.time_ns() < session.status().ends_us * 1000 + 5 * 10**8:  # type: ignore[union-attr]
            time.sleep(0.05)
        session.kill()
        finish_by_start(session)
        assert session.metadata.state == "interrupted"
        account = session.metadata.statistics["accounting"]
        assert (account["killed"], account["end"]) == (1, "open")
        report = validate(session.folder.path, SHORT)
        assert verdicts(report, "accounting") == {"accounting": Verdict.FAIL}
        assert (
            "was killed: messages that it received after its last line" in report.check("accounting").reason
        )
        assert not list_open_sessions(
            sessions_root(session.sandbox.deployment.settings), "custom", ["BTCUSDT"]
        )[1:]


def test_a_real_disk_without_room_can_still_report_the_loss(tmp_path: Path) -> None:
    """On a full tmpfs, the account is overwritten in place, because it was allocated before."""
    with mount_tmpfs(tmp_path / "small", "size=1m") as disk:
        file = AccountFile(disk / "account.json", 2)
        file.allocate()
        file.write(Account(state=AccountState.OPEN))
        filler = os.open(disk / "filler", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError, match="No space"):
            os.posix_fallocate(filler, 0, 2 << 20)
        while True:
            try:
                os.write(filler, bytes(4096))
            except OSError:
                break
        os.close(filler)
        file.write(
            Account(state=AccountState.UNWRITTEN, mark=Checkpoint(counts={"received": 7}), trouble="x" * 400)
        )
        found = read_account(disk / "account.json")
        assert found is not None
        assert (found.state, found.mark.counts) == (AccountState.UNWRITTEN, {"received": 7})
        assert json.loads((disk / "account.json").read_bytes())["state"] == "unwritten"
