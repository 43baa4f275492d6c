"""Limits of the exchange across processes: after a refusal, no process sends a request before its end."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from capture_pipeline_tests.support.deployment import run_sandbox_deployment
from capture_pipeline_tests.support.programs import CAPTURE, OVER, command, limits
from capture_pipeline_tests.support.sessions.recorder import live

pytestmark = pytest.mark.slow


BACKFILL = ("klines", "backfill", "--from", "2025-02", "--to", "2025-02")


@pytest.mark.parametrize(("status", "stated"), [(418, "body"), (429, "both")])
def test_two_processes_obey_what_one_was_refused(status: int, stated: str, tmp_path: Path) -> None:
    """One request is sent during the refusal; afterwards both processes complete."""
    with run_sandbox_deployment(tmp_path / "lake") as sandbox, ExitStack() as stack:
        limits(sandbox, {"status": status, "seconds": 30, "stated": stated})
        one = stack.enter_context(command(sandbox, tmp_path / "one", *BACKFILL))
        one.wait_for_output("until 20")
        other = stack.enter_context(command(sandbox, tmp_path / "other", *BACKFILL, "--symbol", "ETHUSDT"))
        other.wait_for_output("until 20")
        assert limits(sandbox)["in_force"]["rest"]["status"] == status
        assert (one.end(), other.end()) == (0, 0), one.output() + other.output()
        assert limits(sandbox)["refused"] == {"rest": 1, "streams": 0}
        assert one.output().count("until 20") == 1


def test_recorder_and_backfill_obey_a_ban_that_one_of_them_met(tmp_path: Path) -> None:
    """A ban stated only in the body cuts the connections; no handshake or request is sent before its end."""
    with live(tmp_path, connections=1) as session, ExitStack() as stack:
        session.start()
        session.recording(1)
        limits(session.sandbox, {"status": 418, "seconds": 30, "stated": "body"})
        session.inject_fault("ws_cut", "all")
        status = session.wait(lambda status: OVER in status.last_error and OVER in status.paused)
        shown = subprocess.run(
            [CAPTURE, "session", "status"],
            env={**os.environ, **session.sandbox.environment()},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        backfill = stack.enter_context(command(session.sandbox, tmp_path / "told", *BACKFILL))
        backfill.wait_for_output(OVER)
        assert limits(session.sandbox)["in_force"]["rest"]["status"] == 418
        counts = limits(session.sandbox)["refused"]
        assert backfill.end() == 0, backfill.output()
        session.recording(1)
        assert counts["streams"] + counts["rest"] <= 2  # a request for a snapshot may have been under way
        assert limits(session.sandbox)["refused"] == counts
        assert "cannot connect to" in status.last_error
        assert "paused" in shown
        session.finish()


@pytest.mark.parametrize(("status", "stated"), [(429, "both"), (418, "body"), (403, "both")])
def test_refused_handshake_is_not_repeated_before_its_end(status: int, stated: str, tmp_path: Path) -> None:
    """The slots share a refusal; each may have sent one handshake before it."""
    with live(tmp_path, connections=2) as session:
        session.start()
        session.recording(2)
        limits(
            session.sandbox,
            {"status": status, "seconds": 4, "stated": stated, "part": None if status != 429 else "streams"},
        )
        session.inject_fault("ws_cut", "all")
        session.recording(2)
        assert 1 <= limits(session.sandbox)["refused"]["streams"] <= 2
        session.finish()


def test_connection_attempts_stay_within_the_budget(tmp_path: Path) -> None:
    """Connections end repeatedly: further attempts wait, the status shows it, also after a restart."""
    config = {"connection_attempts": 20, "connection_window_s": 300}
    environment = {"CAPTURE_RATE_LIMITS_CONNECTIONS_PER_5_MINUTES": "20"}
    with live(tmp_path, connections=1, config=config) as session:
        session.start(CAPTURE_RECORDING_STEADY_S="0.001", **environment)
        deadline = time.monotonic() + 60
        while (status := session.status()) is None or "connection attempts" not in status.last_error:
            session.inject_fault("ws_cut", "all")
            assert time.monotonic() < deadline, status
            time.sleep(0.02)
        counts = limits(session.sandbox)
        assert (counts["connection_attempts"], counts["surplus_attempts"]) == (16, 0)
        session.kill()
        session.start(**environment)
        session.wait(lambda status: "connection attempts" in status.last_error)
        assert limits(session.sandbox)["connection_attempts"] == 16
