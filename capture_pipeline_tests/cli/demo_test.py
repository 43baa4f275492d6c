"""The commands `capture demo` and `capture ui`, as the README starts them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from capture_pipeline.cli.demo.command import prepare
from capture_pipeline.cli.main import main

CAPTURE = str(Path(sys.executable).with_name("capture"))
ROOT = Path(__file__).resolve().parents[2]


def demo(folder: Path) -> str:
    """Run the demo and return its output."""
    ended = subprocess.run(
        [CAPTURE, "demo", "--out", str(folder), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_makes_its_archive_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """The demo has four symbols and four months of the real-world profile.

    Each cause of a missing bar appears, all gates pass, and no file is downloaded twice.
    """
    first = demo(tmp_path / "demo")
    assert re.search(r"\b(\d+) of \1 gates passed", first)
    for cause in ("exchange_outage", "off_grid", "suspended", "archive_omission"):
        assert cause in first
    assert "币安人生USDT" in first
    assert "│ holds │" in first
    for source in ("rest", "daily"):
        assert re.search(rf"filled +│ archive_omission +│ {source}", first)
    assert (tmp_path / "demo" / "data" / "reports" / "coverage.html").is_file()
    tables = {
        path: path.read_bytes() for path in (tmp_path / "demo" / "data" / "lake" / "bars").rglob("*.parquet")
    }
    assert len(tables) == 16
    reports = tmp_path / "demo" / "data" / "reports"
    assert len(list((reports / "reconciliation").iterdir())) == 16
    evidence = {path: path.read_bytes() for path in (reports / "feasibility").glob("*.json")}
    assert {path.stem for path in evidence} == {"decimal_benchmark", "io_benchmark", "replay_benchmark"}
    second = demo(tmp_path / "demo")
    assert "Downloads:  0 archive files, all verified; 0 pages from REST" in second
    assert "(all bars are those of an earlier run)" in second
    assert "Live session of an earlier run" in second
    assert {path: path.read_bytes() for path in tables} == tables
    assert {path: path.read_bytes() for path in evidence} == evidence


@pytest.mark.parametrize("name", ["pipeline.yaml", "outages.yaml", "irregularities.yaml", "sandbox.yaml"])
def test_the_demo_leaves_files_of_others_alone(name: str, tmp_path: Path) -> None:
    """The command prints one line, exits with 2, and writes nothing."""
    (tmp_path / name).write_text("symbols: [BTCUSDT]\n")
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path)])
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)
    assert str(tmp_path / name) in result.stderr
    assert "use another --out" in result.stderr
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "symbols: [BTCUSDT]\n")]


def test_the_demo_takes_its_own_files_again(tmp_path: Path) -> None:
    """Existing files of the demo are not rewritten; a deleted one is created again."""
    settings = prepare(tmp_path)
    (tmp_path / "outages.yaml").unlink()
    before = settings.stat().st_ino
    assert prepare(tmp_path) == settings
    assert settings.stat().st_ino == before
    assert (tmp_path / "outages.yaml").is_file()


@contextmanager
def ui(home: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """Start Dagster as `make ui` does, with a separate instance."""
    home.mkdir()
    shutil.copy(ROOT / "dagster_home" / "dagster.yaml", home)
    environment = {**os.environ, "DAGSTER_HOME": str(home), "CAPTURE_STORAGE_ROOT": str(home / "data")}
    command = [CAPTURE, "ui", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_webserver_that_ends_by_itself_ends_the_ui_with_1(tmp_path: Path) -> None:
    """The port is in use: the last line names the port, the reason and the remedy.

    The daemon is stopped too.
    """
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        home = tmp_path / "home"
        with ui(home, other.getsockname()[1]) as process:
            _, said = process.communicate(timeout=400)
    last = said.strip().splitlines()[-1]
    assert process.returncode == 1, said
    assert last.startswith("Error: dagster-webserver ended by itself with exit code ")
    assert "address already in use" in last
    assert "--port" in last
    assert "Traceback" not in said
    # What they started ends with them, in its own time.
    deadline = time.monotonic() + 60
    while _processes_of(home):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_daemon_is_said_to_be_killed(tmp_path: Path) -> None:
    """The last log line of the daemon is unrelated and is not quoted as the reason."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ui(tmp_path / "home", port) as process:
        deadline = time.monotonic() + 60
        while not (
            daemons := [
                each
                for each in _processes_of(tmp_path / "home")
                if b"dagster-daemon" in _read(each / "cmdline")
            ]
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(int(daemons[0].name), signal.SIGKILL)
        _, said = process.communicate(timeout=400)
    assert process.returncode == 1, said
    assert said.strip().splitlines()[-1] == "Error: dagster-daemon was killed (signal 9); start it again"


def _processes_of(home: Path) -> list[Path]:
    """Return the processes of that instance, oldest first."""
    folders = [
        each.parent
        for each in Path("/proc").glob("[0-9]*/environ")
        if f"DAGSTER_HOME={home}".encode() in _read(each)
    ]
    return sorted(folders, key=lambda folder: int(folder.name))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
