"""The commands `capture session start` and `preflight` behind a proxy.

The exchange of the tests has certificates of a private authority.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from capture_pipeline.recorder.lifecycle import create_plan, list_sessions, prepare, sessions_root
from capture_pipeline.sessions.status import Status, read_status
from capture_pipeline.settings.loader import load_settings
from capture_pipeline_tests.support.deployment import NO_SETTINGS, run_sandbox_deployment
from capture_pipeline_tests.support.exchange.network import (
    VARIABLES,
    Proxy,
    make_authority,
    proxy_to,
    tls_front,
)
from capture_pipeline_tests.support.sessions.recorder import BUSY, QUICK

LOGIN, WAIT_S = "user:hunter2", 30.0


CAPTURE = [str(Path(sys.executable).with_name("capture"))]
RECORDER = [sys.executable, "-m", "capture_pipeline.recorder"]


def start(command: list[str], root: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a command with the host names of the real exchange, without the developer's network variables."""
    own = {name: value for name, value in os.environ.items() if name.upper() not in VARIABLES}
    settings = {
        "CAPTURE_CONFIG": str(NO_SETTINGS),
        "CAPTURE_STORAGE_ROOT": str(root),
        "CAPTURE_HTTP_ATTEMPTS": "1",
        **QUICK,
    }
    return subprocess.Popen(
        command,
        env={**own, **settings, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(arguments: list[str], root: Path, **environment: str) -> subprocess.Popen[str]:
    return start([*CAPTURE, *arguments], root, **environment)


BAD = [
    ("session", {"HTTPS_PROXY": f"http://{LOGIN}@proxy:port"}, "HTTPS_PROXY: is not the address of a proxy"),
    (
        "session",
        {"ALL_PROXY": f"socks5h://{LOGIN}@proxy:1080"},
        "ALL_PROXY: names a proxy of the kind socks5h, which is not supported",
    ),
    (
        "session",
        {"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"},
        "REQUESTS_CA_BUNDLE=/nowhere/ca.pem: cannot be read: No such file",
    ),
    (
        "preflight",
        {"SSL_CERT_FILE": "/nowhere/ca.pem"},
        "SSL_CERT_FILE=/nowhere/ca.pem: cannot be read: No such file",
    ),
]


@pytest.mark.parametrize(
    ("command", "environment", "told"), BAD, ids=["address", "socks", "bundle", "preflight"]
)
def test_variable_that_cannot_be_used_ends_before_a_session_begins(
    command: str, environment: dict[str, str], told: str, tmp_path: Path
) -> None:
    """The command prints one line that names the variable.

    There is no session folder, no traceback and no password in the output.
    """
    arguments = {
        "session": ["session", "start", "--duration", "5s"],
        "preflight": ["session", "preflight", "--seconds", "1"],
    }[command]
    process = run(arguments, tmp_path / "data", **environment)
    out, err = process.communicate(timeout=60)
    if command == "session":
        assert (process.returncode, out, err.count("\n")) == (2, "", 1), err
        assert err.startswith(f"Error: {told}")
    else:
        assert process.returncode == 1, err
        assert f"FAIL  network        {told}" in out
        assert "test capture" not in out
    assert "hunter2" not in out + err
    assert not list_sessions(tmp_path / "data" / "golden_samples")


def test_recorder_of_a_planned_session_leaves_it_as_it_was(tmp_path: Path) -> None:
    """The recorder starts as Dagster starts it; with a valid variable the same session is recorded."""
    settings = load_settings(environ={"CAPTURE_STORAGE_ROOT": str(tmp_path)}, path=NO_SETTINGS)
    folder = prepare(sessions_root(settings), create_plan(settings, ["BTCUSDT"], "custom", 600))
    process = start([*RECORDER, str(folder.path)], tmp_path, HTTPS_PROXY="socks5://proxy:1080")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("Error: HTTPS_PROXY: names a proxy of the kind socks5")
    assert {path.name for path in folder.path.iterdir()} == {"session.json", "session.lock"}


@dataclass
class Behind:
    """Environment of a recorder behind the proxy."""

    proxy: Proxy
    environment: dict[str, str]


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    """Start the sandbox under the names and ports of the real exchange, behind a proxy with a login."""
    authority = make_authority(tmp_path)
    tls = authority.context()
    with ExitStack() as stack:
        sandbox = stack.enter_context(
            run_sandbox_deployment(tmp_path / "unused", {"frozen": False, "speed": 20, "symbols": [BUSY]})
        )
        front = stack.enter_context(tls_front(urlsplit(sandbox.url).port or 0, tls))
        targets = {f"{host}.binance.vision:443": front for host in ("data-api", "data-stream")}
        proxy = stack.enter_context(proxy_to(targets, login=LOGIN))
        yield Behind(
            proxy, {"HTTPS_PROXY": f"{LOGIN}@127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(authority.bundle)}
        )


def wait(root: Path, process: subprocess.Popen[str], condition: Callable[[Status], bool]) -> Status:
    """Wait until the status of the only session meets a condition."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found = [
            status for folder in list_sessions(root) if (status := read_status(folder.status)) is not None
        ]
        if found and condition(found[0]):
            return found[0]
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"not in {WAIT_S} s: {found}")


@pytest.mark.slow
def test_session_is_recorded_through_a_proxy_and_survives_its_failure(behind: Behind, tmp_path: Path) -> None:
    """Books are synchronised, so that both REST and the streams pass through the proxy.

    A refusal by the proxy only causes a reconnect.
    """
    root = tmp_path / "data" / "golden_samples"
    process = run(["session", "start", "--duration", "10m"], tmp_path / "data", **behind.environment)
    try:
        status = wait(
            root,
            process,
            lambda status: status.books == {"BTCUSDT": "synced"} and len(status.connections) == 2,
        )
        assert status.lag_ms is not None
        assert any(line.startswith("CONNECT data-stream.binance.vision") for line in behind.proxy.seen)
        assert any(line.startswith("CONNECT data-api.binance.vision") for line in behind.proxy.seen)
        behind.proxy.answer = 407
        behind.proxy.close_tunnels()
        refused = wait(root, process, lambda status: not status.connections and "407" in status.last_error)
        assert f"the proxy http://127.0.0.1:{behind.proxy.port} rejects the login (407)" in refused.last_error
        behind.proxy.answer = None
        wait(root, process, lambda status: len(status.connections) == 2 and not status.last_error)
    finally:
        process.send_signal(signal.SIGUSR1)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("interrupted: ")
    assert "Traceback" not in err
    (folder,) = list_sessions(root)
    texts = [path.read_text() for path in folder.path.iterdir() if path.suffix in {".json", ".jsonl"}]
    assert not any("hunter2" in text for text in [out, err, *texts])


@pytest.mark.slow
def test_preflight_names_the_proxy_and_what_it_refuses(behind: Behind, tmp_path: Path) -> None:
    """The preflight passes through the proxy; after a refusal it prints the reason and the remedy."""
    passed = run(
        ["session", "preflight", "--seconds", "1", "--json"], tmp_path / "data", **behind.environment
    )
    found = {finding["name"]: finding for finding in json.loads(passed.communicate(timeout=60)[0])}
    assert (
        f"proxy http://127.0.0.1:{behind.proxy.port}, certificates from SSL_CERT_FILE="
        in found["network"]["measured"]
    )
    assert found["requests"]["passed"]
    assert found["test capture"]["passed"]
    behind.proxy.login = "user:another"
    failed = run(["session", "preflight", "--seconds", "1"], tmp_path / "data", **behind.environment)
    out, err = failed.communicate(timeout=60)
    assert (failed.returncode, err) == (1, "")
    assert "→ set HTTPS_PROXY to http://user:password@host:port" in out
    assert out.count("rejects the login (407)") == 2
    assert "hunter2" not in out
