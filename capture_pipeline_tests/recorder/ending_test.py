"""The end of a session: one decision, and completion by the next process after an interruption."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from capture_pipeline.errors import ConfigError
from capture_pipeline.recorder.app import record
from capture_pipeline.recorder.connections.connection import Connection
from capture_pipeline.recorder.lifecycle import create_plan, prepare, sessions_root, stop
from capture_pipeline.recorder.state import session_state
from capture_pipeline.sessions.gzip_members import build_member
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import lock_owner_pid, session_lock
from capture_pipeline.sessions.models import SessionMetadata, SessionPlan
from capture_pipeline.settings.models import Settings
from capture_pipeline_tests.support.sessions.recorder import live


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Create the settings of a deployment whose exchange receives no request."""
    return Settings.model_validate(
        {"venue": "sandbox", "sandbox_url": "http://127.0.0.1:9", "storage": {"root": tmp_path}}
    )


@pytest.fixture
def folder(settings: Settings) -> SessionFolder:
    """Prepare a session of one hour."""
    return prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT"], "custom", 3600))


def members(first: int, count: int = 10) -> bytes:
    """Build trades as a part of a recording."""
    form = b'{"capture_ns":%d,"stream":"btcusdt@trade","data":{"e":"trade","E":1,"t":%d}}\n'
    return build_member(b"".join(form % (number, number) for number in range(first, first + count)), count)


def ids(folder: SessionFolder) -> list[int]:
    """Return the trade ids of the finished recording."""
    return [
        json.loads(line)["data"]["t"] for line in gzip.decompress(folder.recording.read_bytes()).splitlines()
    ]


def test_a_finish_that_was_cut_off_is_finished_and_nothing_is_recorded_over_it(
    folder: SessionFolder, settings: Settings
) -> None:
    """The recording has its name and no metadata yet, before the planned end."""
    folder.recording.write_bytes(members(1))
    ended = record(settings, folder)
    assert ended.metadata is not None
    assert ended.metadata.statistics["messages"] == 10
    assert ids(folder) == list(range(1, 11))


@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_parts_that_were_joined_are_neither_doubled_nor_lost(
    left: int, folder: SessionFolder, settings: Settings
) -> None:
    """The test covers each set of parts that a crash may leave."""
    parts = [members(1), members(11), members(21)]
    folder.recording.write_bytes(b"".join(parts))
    for number in range(left):
        folder.segment(number + 1).write_bytes(parts[number])
    assert stop(folder, settings) is not None
    assert ids(folder) == list(range(1, 31))
    assert not folder.segments()


def test_parts_are_joined_in_order(folder: SessionFolder, settings: Settings) -> None:
    """The recording has more than nine parts, so that names in text order would be wrong."""
    for number in range(11):
        folder.segment(number + 1).write_bytes(members(number * 10 + 1))
    stop(folder, settings)
    assert ids(folder) == list(range(1, 111))


def test_two_recordings_of_one_session_are_left_alone(folder: SessionFolder, settings: Settings) -> None:
    """The error is one line, and neither file is changed."""
    folder.recording.write_bytes(members(1))
    folder.growing.write_bytes(members(500))
    with pytest.raises(Exception, match="which is not its beginning"):
        stop(folder, settings)
    assert (folder.recording.read_bytes(), folder.growing.read_bytes()) == (members(1), members(500))


def test_a_session_of_which_nothing_came_is_finished_as_empty(
    folder: SessionFolder, settings: Settings
) -> None:
    """It does not block other sessions."""
    metadata = stop(folder, settings)
    assert metadata is not None
    assert (metadata.state, metadata.statistics["messages"]) == ("empty", 0)
    assert session_state(folder)[0] == "empty"
    again = prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT"], "custom", 60, start_us=1))
    assert again != folder


def test_a_stop_before_the_recorder_is_up_is_heard(folder: SessionFolder, settings: Settings) -> None:
    """The recorder that starts afterwards records nothing."""
    assert stop(folder, settings) is not None
    ended = record(settings, folder)
    assert ended.metadata == SessionMetadata.model_validate_json(folder.metadata.read_bytes())


def test_a_carriage_return_in_a_message_harms_nobody(folder: SessionFolder, settings: Settings) -> None:
    """The invalid line is counted, and the session can be finished."""
    folder.growing.write_bytes(
        members(1) + build_member(b'{"capture_ns":99,\r"stream":"btcusdt@trade","data":{"t":"x"}}\n', 1)
    )
    metadata = stop(folder, settings)
    assert metadata is not None
    assert metadata.statistics["bad_lines"] == 1


def test_who_only_looks_is_nobody_to_wait_for(folder: SessionFolder) -> None:
    """Many processes read the owner while a recorder starts: none sees a wrong one, and it gets the lock."""
    seen: list[int | None] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.append(lock_owner_pid(folder))

    with session_lock(folder):
        pass
    lookers = [threading.Thread(target=look) for _ in range(4)]
    for looker in lookers:
        looker.start()
    for _ in range(20):
        with session_lock(folder):
            time.sleep(0.002)
    over.set()
    for looker in lookers:
        looker.join()
    import os  # noqa: PLC0415

    assert set(seen) <= {None, os.getpid()}


def test_a_stale_owner_is_never_signalled(folder: SessionFolder) -> None:
    """The file names a pid that now belongs to another process."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with session_lock(folder):
            owner = json.loads(folder.lock.read_text())
            folder.lock.write_text(json.dumps({**owner, "pid": stranger.pid}))
            assert (
                lock_owner_pid(folder) is None
                or lock_owner_pid(folder) != stranger.pid
                or owner["started"] == "?"
            )
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize(
    ("symbols", "seconds", "expected"),
    [
        (["BTCUSDT"], 1e12, "cannot last"),
        (["BTCUSDT", "BTCUSDT"], 60, "name each symbol once"),
        ([f"S{n}USDT" for n in range(600)], 60, "at most 512"),
    ],
)
def test_a_plan_beyond_what_a_connection_carries_is_one_line(
    symbols: list[str], seconds: float, expected: str, settings: Settings
) -> None:
    """The error comes before anything is written."""
    with pytest.raises(ConfigError, match=expected):
        create_plan(settings, symbols, "custom", seconds)


def test_sessions_that_start_together_do_not_meet(settings: Settings) -> None:
    """Each regime and list of symbols has its own folder and id."""
    plans = [
        create_plan(settings, symbols, regime, 60, start_us=10**15)
        for regime in ("a", "b")
        for symbols in (["X1"], ["X1", "Y1"], ["X1", "Z1"])
    ]
    assert len({plan.session for plan in plans}) == 6
    prepare(sessions_root(settings), plans[0])
    with pytest.raises(ConfigError, match="exists already"):
        prepare(sessions_root(settings), plans[0])


def test_starts_at_the_same_time_choose_one_session(settings: Settings) -> None:
    """One case changes the second in between, which changes the name of the session."""
    second = 1_000_000
    for turn in range(5):
        names = [
            create_plan(
                settings, [f"S{turn}USDT"], "custom", 3600, start_us=time.time_ns() // 1000 + at * second
            )
            for at in range(8)
        ]
        together = threading.Barrier(len(names))

        def start(plan: SessionPlan, together: threading.Barrier = together) -> Path:
            together.wait(10)
            return prepare(sessions_root(settings), plan).path

        with ThreadPoolExecutor(len(names)) as pool:
            chosen = set(pool.map(start, names))
        assert len(chosen) == 1
        assert len(list((sessions_root(settings) / "custom").glob(f"*s{turn}usdt"))) == 1


@pytest.mark.slow
def test_rest_that_hangs_keeps_no_recorder_from_ending(tmp_path: Path) -> None:
    """SIGTERM ends it within seconds while a snapshot and a clock sample wait for their answers."""
    with live(tmp_path) as session:
        session.sandbox.faults(
            {"match": {"path": "/api/*"}, "fault": "timeout", "stall_s": 60, "times": "always"}
        )
        session.start(CAPTURE_HTTP_READ_TIMEOUT_S="50")
        session.recording()
        assert session.process is not None
        sent = time.monotonic()
        session.process.send_signal(signal.SIGTERM)
        assert session.wait_for_end()[0] == 130
        assert time.monotonic() - sent < 8


@pytest.mark.slow
def test_a_metrics_port_that_is_taken_is_told_and_the_session_recorded(tmp_path: Path) -> None:
    """Two sessions may have the same settings."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with live(tmp_path) as session:
            session.start(CAPTURE_RECORDING_METRICS_PORT=str(taken.getsockname()[1]))
            session.recording()
            session.finish()
            assert session.events("metrics_failed")


def test_a_plan_that_is_damaged_stops_no_other_session(folder: SessionFolder, settings: Settings) -> None:
    """The damaged session is unchanged."""
    folder.plan.write_text("{")
    again = prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT"], "custom", 60, start_us=1))
    assert again != folder
    assert folder.plan.read_text() == "{"


class _Elsewhere(BaseHTTPRequestHandler):
    """Redirects every request to another host."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Redirect the request."""
        self.send_response(302)
        self.send_header("Location", "ws://localhost:1/stream")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Suppress the log."""


def test_a_redirect_of_a_stream_is_not_followed() -> None:
    """Recorded data come only from the configured host."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = Connection(1, 0, lambda *_: None)
        asyncio.run(connection.run(f"ws://127.0.0.1:{server.server_address[1]}/stream", lambda _: None))
        server.shutdown()
    assert connection.detail == "refused with HTTP 302"
