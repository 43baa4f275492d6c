"""Alerts about sessions and the disk."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from capture_pipeline.lake.files import publish_model
from capture_pipeline.operations.alerts.conditions import GRACE_US, check_disk, check_sessions
from capture_pipeline.operations.alerts.models import Alert, State
from capture_pipeline.recorder.lifecycle import create_plan, prepare, read_plan, sessions_root
from capture_pipeline.sessions.status import free_bytes
from capture_pipeline.settings.levels import Level
from capture_pipeline.settings.loader import load_settings
from capture_pipeline_tests.support.deployment import NO_SETTINGS
from capture_pipeline_tests.support.sessions.recorder import live


def now_us() -> int:
    return time.time_ns() // 1000


def look(root: Path, later_us: int, *open_keys: str) -> list[tuple[Level, State, str]]:
    return [
        (alert.level, alert.state, alert.title)
        for alert in check_sessions(root, now_us() + later_us, open_keys)
    ]


@pytest.mark.slow
def test_a_recorder_that_dies_is_an_alert_until_it_is_back(tmp_path: Path) -> None:
    """The alert is raised a minute after the death, contains the remedy, and ends with the recording."""
    with live(tmp_path) as one:
        root, key = sessions_root(one.sandbox.deployment.settings), f"session:{one.folder.session}"
        one.start()
        one.wait(lambda status: status.messages > 20)
        assert look(root, 0) == []
        one.kill()
        assert look(root, 0) == []
        (alert,) = check_sessions(root, now_us() + GRACE_US, [])
        assert (alert.key, alert.level, alert.state) == (key, Level.CRITICAL, State.OPEN)
        assert f"Session {one.folder.session} has been down since " in alert.title
        assert alert.text == "Start it again: capture session start --symbol BTCUSDT --regime custom"
        one.start()
        one.wait(lambda status: status.state == "recording" and status.messages > 40)
        assert look(root, 0, key) == [
            (Level.CRITICAL, State.RESOLVED, f"Session {one.folder.session} is recorded again")
        ]


def test_a_session_that_nobody_began_is_down_and_one_that_ended_is_to_be_finished(tmp_path: Path) -> None:
    settings = load_settings(NO_SETTINGS, {"CAPTURE_STORAGE_ROOT": str(tmp_path)})
    root = sessions_root(settings)
    start_us = now_us() - 2_000_000
    folder = prepare(root, create_plan(settings, ["BTCUSDT"], "custom", 3600, start_us=start_us))
    assert look(root, 0) == []
    ((level, _, title),) = look(root, GRACE_US)
    assert (level, "has been down since" in title) == (Level.CRITICAL, True)
    publish_model(folder.plan, read_plan(folder).model_copy(update={"start_us": start_us - 3600 * 1_000_000}))
    assert look(root, 0) == []
    ((level, _, title),) = look(root, GRACE_US)
    assert (level, title) == (Level.WARNING, f"Session {folder.session} ended and is not finished")
    folder.plan.write_text("{")
    ((level, _, title),) = look(root, 0)
    assert (level, title) == (Level.CRITICAL, f"Session {folder.session} has no usable plan")


def test_a_session_without_a_message_is_late(tmp_path: Path) -> None:
    """The recorder runs, but its exchange does not answer."""
    with live(tmp_path) as one:
        one.start(CAPTURE_SANDBOX_URL="http://127.0.0.1:9")
        one.wait(lambda status: bool(status.last_error))
        root = sessions_root(one.sandbox.deployment.settings)
        assert look(root, 0) == []
        one.plan(start_us=now_us() - GRACE_US)
        (alert,) = check_sessions(root, now_us(), [])
        assert (alert.level, alert.title) == (Level.WARNING, f"Session {one.folder.session} is late")
        assert "cannot connect to ws://127.0.0.1:9" in alert.fields["last error"]


def test_the_disk_is_compared_with_the_reserve_of_recordings(tmp_path: Path) -> None:
    """The storage root may be missing; near the reserve nothing changes."""
    free = free_bytes(tmp_path) / 1e9

    def at(reserve: float) -> Alert | None:
        environment = {
            "CAPTURE_STORAGE_ROOT": str(tmp_path / "a" / "b"),
            "CAPTURE_RECORDING_FREE_DISK_GB": str(reserve),
        }
        return check_disk(load_settings(NO_SETTINGS, environment))

    below, between, above = at(free * 1.5), at(free * 0.975), at(free * 0.5)
    assert below is not None
    assert (below.key, below.level, below.state) == ("disk", Level.CRITICAL, State.OPEN)
    assert between is None
    assert above is not None
    assert above.state is State.RESOLVED
