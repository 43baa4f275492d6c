"""A recording that is removed, replaced, cut or overwritten during the recording."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from capture_pipeline.checks.model import Severity, Verdict
from capture_pipeline.checks.recordings import DEFAULTS
from capture_pipeline.cli.session.view import overview
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.recorder.lifecycle import create_plan, prepare, sessions_root, stop
from capture_pipeline.sessions.counts import ACCOUNT_PARTS
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Cause, SessionPlan
from capture_pipeline.settings.models import Settings
from capture_pipeline_tests.support.sessions.desk import OTHERS, Desk, lost_ids, recorded_ids
from capture_pipeline_tests.support.sessions.recorder import live
from capture_pipeline_tests.support.sessions.system_calls import Calls


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """Move the file away and write another one in its place."""
    path.rename(path.with_name("moved"))
    path.write_bytes(b"not of this session\n" * 50)


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def empty(path: Path) -> None:
    with path.open("wb"):
        pass


def overwrite(path: Path) -> None:
    """Cut the file and write to it, as an editor or `>` does."""
    path.write_bytes(b"overwritten" * 3)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"appended")


HARMS: dict[str, tuple[Callable[[Path], None], Cause]] = {
    "removed": (remove, Cause.FILE_REMOVED),
    "replaced": (replace, Cause.FILE_REMOVED),
    "a folder in its place": (replace_by_a_folder, Cause.FILE_REMOVED),
    "cut": (cut, Cause.FILE_ALTERED),
    "emptied": (empty, Cause.FILE_ALTERED),
    "overwritten": (overwrite, Cause.FILE_ALTERED),
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate(
        {"venue": "sandbox", "sandbox_url": "http://127.0.0.1:9", "storage": {"root": tmp_path}}
    )


@pytest.fixture
def folder(settings: Settings) -> SessionFolder:
    return prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT", "ETHUSDT"], "custom", 3600))


@pytest.mark.parametrize("name", HARMS)
@pytest.mark.parametrize("resumed", [False, True], ids=["one recorder", "and another one"])
def test_it_is_noticed_and_its_ids_are_listed(
    name: str, resumed: bool, folder: SessionFolder, settings: Settings
) -> None:
    """The check runs at each fsync interval without another message; only the altered lines are lost."""
    harm, cause = HARMS[name]
    desk = Desk(folder).start()
    desk.send(1, 40)
    desk.send(1, 5, OTHERS)
    harm(folder.growing)
    reports = desk.wait_for_alterations()
    assert len(reports) == 1
    assert folder.growing.name in reports[0]
    assert desk.accounting.altered == reports
    desk.send(41, 60)
    if resumed:
        desk.end()
        desk = Desk(folder, 1000).start()
        desk.send(61, 80)
    desk.end()
    metadata = stop(folder, settings)
    assert metadata is not None
    last = 80 if resumed else 60
    assert recorded_ids(folder) == set(range(1, last + 1)) - lost_ids(folder, cause)
    assert recorded_ids(folder) >= set(range(41, last + 1))
    assert recorded_ids(folder, OTHERS) | lost_ids(folder, cause, stream=OTHERS) == set(range(1, 6))
    assert {gap.cause for gap in read_gaps(folder.gaps)} <= {cause}
    account = metadata.statistics["accounting"]
    assert account["received"] == account["written"] + sum(account[part] for part in ACCOUNT_PARTS)
    assert account["removed"] == 40 + 5 - len(recorded_ids(folder) & set(range(1, 41))) - len(
        recorded_ids(folder, OTHERS)
    )
    assert [one["cause"] for one in account["altered"]] == [cause]
    report = validate(folder.path, dataclasses.replace(DEFAULTS, min_messages=1, duration_s=0.0))
    assert (report.check("ledger").verdict, report.check("accounting").verdict) == (
        Verdict.PASS,
        Verdict.PASS,
    )
    assert (report.check("disk").verdict, report.check("disk").spec.severity) == (
        Verdict.FAIL,
        Severity.ERROR,
    )
    assert folder.growing.name in report.check("disk").reason


@pytest.mark.parametrize("harm", [cut, append, remove])
def test_a_message_that_comes_before_it_is_noticed_goes_into_the_new_part(
    harm: Callable[[Path], None], folder: SessionFolder, settings: Settings
) -> None:
    """No line is written after a hole or over foreign bytes."""
    desk = Desk(folder).start()
    desk.send(1, 20)
    harm(folder.growing)
    desk.send(21, 25)
    desk.wait_for_alterations()
    desk.end()
    stop(folder, settings)
    assert recorded_ids(folder) >= {21, 22, 23, 24, 25} or harm is remove
    assert recorded_ids(folder) | lost_ids(folder, Cause.FILE_REMOVED, Cause.FILE_ALTERED) == set(
        range(1, 26)
    )


def test_gaps_of_a_part_that_was_removed_are_within_its_own(
    folder: SessionFolder, settings: Settings
) -> None:
    """The ledger lists each id once; earlier gaps stay."""
    desk = Desk(folder).start()
    desk.send(1, 10)
    desk.send(16, 30)
    desk.pipeline.flush_due()
    remove(folder.growing)
    desk.wait_for_alterations()
    desk.send(31, 40)
    desk.end()
    stop(folder, settings)
    assert lost_ids(folder, Cause.FILE_REMOVED) == set(range(1, 41)) - recorded_ids(folder)
    assert len(read_gaps(folder.gaps)) == 1


def test_a_middle_part_that_is_removed_is_a_gap_between_the_others(
    folder: SessionFolder, settings: Settings
) -> None:
    """Parts are recovered by their number, not by their count."""
    desk = Desk(folder).start()
    desk.send(1, 10)
    cut(folder.growing)
    desk.wait_for_alterations()
    desk.send(11, 20)
    desk.end()
    folder.segment(2).rename(folder.path / "away")
    again = Desk(folder, 500).start()
    assert again.writer.segment == 1
    again.send(21, 30)
    again.end()
    stop(folder, settings)
    assert recorded_ids(folder) >= set(range(21, 31))
    every = set(Cause)
    assert recorded_ids(folder) | lost_ids(folder, *every) == set(range(1, 31))


def test_it_is_noticed_while_nothing_is_written(
    folder: SessionFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The market is quiet, and all data were flushed and checked before."""
    calls = Calls(monkeypatch)
    desk = Desk(folder)
    desk.send(1, 10)
    begun_s = time.monotonic()
    desk.start()
    deadline = begun_s + 10
    name = folder.growing.name
    while (
        calls.of(name)[-1] != f"fsync {name}"
        or calls.count(f"write {name}") != 2
        or desk.writer._checked_s < begun_s
    ):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(0.2)
    remove(folder.growing)
    assert len(desk.wait_for_alterations()) == 1
    desk.end()


def test_parts_go_on_behind_the_last_number(folder: SessionFolder) -> None:
    """After the loss of the first of two parts, the third part is the next one."""
    desk = Desk(folder).start()
    desk.send(1, 10)
    remove(folder.growing)
    desk.wait_for_alterations()
    desk.send(11, 20)
    desk.end()
    again = Desk(folder, 500).start()
    assert again.writer.segment == 2
    again.end()


@pytest.mark.slow
def test_a_live_recorder_goes_on_through_all_of_it(tmp_path: Path) -> None:
    """A real process reports all four alterations in its status and on standard error."""
    with live(tmp_path, speed=60) as session:
        session.start(CAPTURE_RECORDING_FSYNC_S="0.1")
        session.recording()
        first: dict[str, int] = {}
        for number, harm in enumerate((remove, replace, cut, overwrite), 1):
            path = session.folder.segment(number)
            session.wait(lambda _, path=path: path.exists() and path.stat().st_size > 4000)  # type: ignore[misc]
            if not first:
                status = session.status()
                assert status is not None
            harm(path)
            session.wait(lambda status, number=number: len(status.altered) == number)  # type: ignore[misc]
        status = session.status()
        assert status is not None
        assert [line.split()[0] for line in status.altered] == [
            session.folder.segment(number).name for number in range(1, 5)
        ]
        console = Console(width=200)
        with console.capture() as captured:
            console.print(overview([session.folder]))
        shown = captured.get()
        assert shown.count("while it was written") == 2
        assert " received = " in shown
        session.wait(lambda status: status.file_bytes > 8000)
        assert session.process is not None
        session.process.send_signal(10)
        code, output = session.wait_for_end()
        assert code == 0, output
        assert output.count("recording continues in a new part") == 4
        assert {gap.cause for gap in session.gaps} <= {Cause.FILE_REMOVED, Cause.FILE_ALTERED}
        session.check_ids()
        account = session.metadata.statistics["accounting"]
        assert account["difference"] == 0
        assert account["removed"] > 0
        assert len(session.events("recording_altered")) == 4
        assert (
            SessionPlan.model_validate_json(session.folder.plan.read_bytes()).session
            == session.folder.session
        )
