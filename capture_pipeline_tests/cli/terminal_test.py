"""Output on a terminal: stream, width, final line, and remedies that fit the cause."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capture_pipeline.binance.http.settings import Http as HttpSettings
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.cli.main import COMMANDS, main
from capture_pipeline.deployment.rest_client import create_http
from capture_pipeline.errors import NetworkError
from capture_pipeline.lake.files import publish_model
from capture_pipeline.recorder.lifecycle import create_plan, prepare, sessions_root
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import session_lock
from capture_pipeline.sessions.models import Ending
from capture_pipeline.sessions.status import Status, publish_status
from capture_pipeline.settings.loader import load_settings
from capture_pipeline_tests.support.deployment import NO_SETTINGS
from capture_pipeline_tests.support.exchange.network import clear_environment


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a storage root with the sandbox as its exchange."""
    clear_environment(monkeypatch)
    for name, value in {
        "STORAGE_ROOT": str(tmp_path),
        "CONFIG": str(NO_SETTINGS),
        "VENUE": "sandbox",
    }.items():
        monkeypatch.setenv(f"CAPTURE_{name}", value)
    monkeypatch.setenv("CAPTURE_RECORDING_FREE_DISK_GB", "0.001")
    return sessions_root(load_settings())


def begun(root: Path, symbol: str = "BTCUSDT", seconds: float = 600) -> SessionFolder:
    """Create an unfinished session."""
    return prepare(root, create_plan(load_settings(), [symbol], "custom", seconds))


def told(folder: SessionFolder, **figures: object) -> None:
    """Write the status of the session as a recorder in this process."""
    now_ns = time.time_ns()
    status = Status(
        session=folder.session,
        state="recording",
        pid=os.getpid(),
        updated_ns=now_ns,
        started_us=now_ns // 1000,
        ends_us=0,
    )
    publish_status(folder.status, status.model_copy(update=figures))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def on_terminal(columns: int, *arguments: str) -> str:
    """Run a command on a terminal of this width; return its standard output only."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}} | {
        "TERM": "xterm"
    }
    command = [str(Path(sys.executable).with_name("capture")), *arguments]
    process = subprocess.Popen(
        command, stdout=child, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=env
    )
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(parent, 1 << 16)
        except OSError:  # the last writer is gone
            break
        if not piece:
            break
        shown += piece
    os.close(parent)
    process.wait(60)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r\n", "\n")


def test_status_goes_to_standard_output_and_ends_with_the_state(root: Path) -> None:
    """The last word of each session is its state: at work, without its recorder, or finished."""
    working, gone, ended = (begun(root, symbol) for symbol in ("BTCUSDT", "ETHUSDT", "BNBUSDT"))
    publish_model(ended.ending, Ending(state="complete"))
    with session_lock(working):
        told(working)
        shown = run("session", "status")
    assert (shown.exit_code, shown.stderr) == (0, "")
    states = dict(line.split(": ", 1) for line in shown.stdout.splitlines()[-3:])
    assert states == {
        working.session: "recording",
        gone.session: "interrupted",
        ended.session: "ended, not finished",
    }
    one = run("session", "status", gone.session)
    assert one.stdout.splitlines()[-1] == f"{gone.session}: interrupted"


@pytest.mark.parametrize("columns", [60, 120])
def test_status_fits_the_terminal(columns: int, root: Path) -> None:
    """No text is cut off, and no line is wider than the terminal."""
    folder = begun(root)
    with session_lock(folder):
        told(
            folder,
            last_error="cannot connect to wss://data-stream.binance.vision: " + "a long reason " * 8,
            gaps=12_345,
        )
        shown = on_terminal(columns, "session", "status", folder.session)
    assert max(map(len, shown.splitlines())) <= columns
    assert shown.count("reason") == 8
    assert shown.rstrip().endswith(f"{folder.session}: recording")


def test_watch_ends_with_the_state_once_the_session_is_finished(root: Path) -> None:
    """The command shows the finished session and exits."""
    folder = begun(root)
    assert run("session", "stop", folder.session).exit_code == 0
    watched = run("session", "status", folder.session, "--watch")
    assert (watched.exit_code, watched.stdout.splitlines()[-1]) == (0, f"{folder.session}: empty")
    assert "No session is open" in run("session", "status", "--watch").stdout


@pytest.mark.parametrize(("lag_ms", "expected"), [(12.5, "12.5 ms after the exchange's time"), (None, "")])
def test_age_of_the_event_time_is_shown_where_it_is_known(
    lag_ms: float | None, expected: str, root: Path
) -> None:
    """A recorder of the sandbox, which has a separate clock, omits it: see `StatusPublisher.status`."""
    folder = begun(root)
    with session_lock(folder):
        told(folder, lag_ms=lag_ms, messages=7)
        shown = run("session", "status").stdout
    assert "7, 0.0/s" in shown
    assert ("after the exchange's time" in shown, expected in shown) == (bool(expected), True)


def test_session_that_is_set_aside_is_named_and_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output contains the new path; without --all the list does not change."""
    monkeypatch.setenv("CAPTURE_SANDBOX_URL", "http://127.0.0.1:9")
    old = begun(root)
    started = run("session", "start", "--no-resume", "--duration", "1s")
    (aside,) = [path for path in old.path.parent.iterdir() if path.name.startswith(".aside-")]
    assert f"Renamed the unfinished session: {aside}" in started.stderr
    rows = {row["state"]: row for row in json.loads(run("session", "list", "--all", "--json").stdout)}
    assert rows.keys() == {"empty", "set aside"}
    assert (rows["set aside"]["session"], rows["set aside"]["folder"]) == (old.session, str(aside))
    listed = run("session", "list", "--all")
    assert f"{old.session} is set aside in {aside}" in listed.stdout
    assert len(json.loads(run("session", "list", "--json").stdout)) == 1
    assert "set aside" not in run("session", "list").stdout


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_diagnosis_can_be_read_on_any_terminal(columns: int, tmp_path: Path) -> None:
    """Every number of every file is complete, and no line is wider than the terminal."""
    name = "btcusdt_capture_20250803T143000Z.jsonl"
    data = '{"e":"trade","E":%d,"s":"BTCUSDT","t":%d,"p":"1","q":"1","T":1,"m":true,"M":true}'
    line = '{"capture_ns":%d,"stream":"btcusdt@trade","data":' + data + "}\n"
    start_ns = 1_754_230_000_000_000_000
    lines = [line % (start_ns + at * 10**6, at, at if at < 1500 else at + 5) for at in range(1, 3000)]
    (tmp_path / name).write_text("".join(lines) + "{ no message\n")
    shown = on_terminal(columns, "session", "diagnose", str(tmp_path))
    assert max(map(len, shown.splitlines())) <= columns
    assert name in shown
    assert f"{(tmp_path / name).stat().st_size:,}" in shown
    assert "3,000" in shown
    for word in ("gaps", "inside", "troubles", "continuity"):
        assert word in shown.split(), word


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_sandbox_command_is_named_only_where_nothing_listens_at_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not named after a time-out, for another service on loopback, or for another venue."""
    port = closed_port()
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("CAPTURE_SANDBOX_URL", url)

    def remedy(http: Http, address: str) -> str | None:
        with pytest.raises(NetworkError) as failed:
            http.get(f"{address}/api/v3/time", max_bytes=10)
        return failed.value.remedy

    sandbox = create_http(load_settings())
    assert remedy(sandbox, url) == "start the sandbox with `capture sandbox serve`"
    assert remedy(sandbox, f"http://127.0.0.1:{closed_port()}") is None
    assert remedy(Http(HttpSettings()), url) is None
    monkeypatch.setenv("CAPTURE_VENUE", "binance")
    assert remedy(create_http(load_settings()), url) is None
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert remedy(Http(HttpSettings(read_timeout_s=0.2), sandbox_url=address), address) is None


HEAVY = {"polars", "pyarrow", "numba", "duckdb", "pandera", "pydantic", "dagster"}
IMPORTED_FOR_HELP = """
import contextlib, sys
from capture_pipeline.cli.main import COMMANDS, main
with contextlib.suppress(SystemExit):
    main(["--help"])
sys.stderr.write(" ".join(sys.modules))
"""


def test_the_list_of_commands_imports_none_of_them() -> None:
    """Each command has one line; the list does not wait for imports of the commands."""
    shown = subprocess.run(
        [sys.executable, "-c", IMPORTED_FOR_HELP], capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"^  ([a-z]+)  +\S.*$", shown.stdout, re.MULTILINE)) == set(COMMANDS)
    assert not HEAVY & set(shown.stderr.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_of_the_list_can_be_asked_for_help(name: str) -> None:
    """The list contains a module and a function for each command; both exist."""
    assert run(name, "--help").exit_code == 0
