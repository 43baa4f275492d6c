"""`make ui`: Dagster's code server, webserver and daemon as three processes on 127.0.0.1, ended together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click
import yaml

from capture_pipeline.cli.console import CliError, one_line_errors
from capture_pipeline.cli.demo.command import SANDBOX_FILE, free_port, prepare
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.terminal import write_line
from sandbox_exchange.config.models import load_config
from sandbox_exchange.server.server import SandboxServer

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""Escape sequences for colours in Dagster's log lines."""
_GRACE_S = 15.0
_LAST_WORDS_S = 2.0
_DAGSTER = {"DAGSTER_MAX_PARTITIONS_FOR_DA_TIMESTAMP_FETCH": "5000"}
"""Largest number of partitions changed between two ticks for which the automation compares times.

The default of Dagster is 100.
"""
LOCATION = "capture_pipeline"
_CODE_SERVER = (
    *(
        sys.executable,
        "-m",
        "dagster",
        "code-server",
        "start",
        "-m",
        "capture_pipeline.definitions",
        "--location-name",
        LOCATION,
    ),
    *("--log-level", "warning"),
)


class EndedByItselfError(CliError):
    """A process of the UI ended by itself."""

    exit_code = EXIT_FAILED


@click.command("ui", epilog="Example: capture ui --port 3001")
@click.option("--port", default=3000, show_default=True, help="Port of the webserver.")
@click.option("--demo", is_flag=True, help="Show the data of the demo, with its sandbox exchange running.")
@click.option("--read-only", is_flag=True, help="Allow no launch and no change.")
def ui_command(port: int, demo: bool, read_only: bool) -> None:
    """Open Dagster: code server, webserver and daemon, bound to 127.0.0.1.

    The default of DAGSTER_HOME is the folder dagster_home of the project.
    """
    root = _project_root()
    with one_line_errors(), _venue(root, demo=demo) as environment:
        load_settings(environ={**os.environ, **environment})
        _run(
            root,
            port,
            {"DAGSTER_HOME": str(root / "dagster_home"), **_DAGSTER, **os.environ, **environment},
            read_only=read_only,
        )


@contextlib.contextmanager
def _venue(root: Path, *, demo: bool) -> Iterator[dict[str, str]]:
    """Yield the environment of the deployment; for the demo, run its sandbox exchange meanwhile."""
    if not demo:
        yield {}
        return
    settings = prepare(root / "demo")
    with SandboxServer(load_config(root / "demo" / SANDBOX_FILE), free_port(8650)) as server:
        yield {"CAPTURE_CONFIG": str(settings), "CAPTURE_SANDBOX_URL": server.url}


def _run(root: Path, port: int, environment: dict[str, str], *, read_only: bool) -> None:
    """Start the code server, then webserver and daemon; end all when one ends or a signal arrives.

    The code server listens on a socket in a private folder: no other user can open it, and a second UI uses
    another one.

    Raises:
        EndedByItselfError: A process ended by itself; the others were stopped.
    """
    dagster = Path(sys.executable).parent
    _make_instance(dagster, root, environment)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    running: list[_Process] = []

    def start(name: str, command: list[str]) -> _Process:
        running.append(_Process(name, command, root, environment))
        return running[-1]

    with tempfile.TemporaryDirectory(prefix="capture-ui-") as folder:
        code_socket, workspace = Path(folder) / "code-server", Path(folder) / "workspace.yaml"
        location = {"grpc_server": {"socket": str(code_socket), "location_name": LOCATION}}
        workspace.write_text(yaml.safe_dump({"load_from": [location]}), encoding="utf-8")
        web = [
            sys.executable,
            "-m",
            "capture_pipeline.webserver",
            "-h",
            "127.0.0.1",
            "-p",
            str(port),
            "-w",
            str(workspace),
        ]
        try:
            code_server = start("code server", [*_CODE_SERVER, "-s", str(code_socket)])
            while code_server.is_running and not _answers(code_socket):
                time.sleep(0.1)
            if code_server.is_running:
                start("dagster-webserver", [*web, *(["--read-only"] if read_only else [])])
                start("dagster-daemon", [str(dagster / "dagster-daemon"), "run", "-w", str(workspace)])
                write_line(f"Dagster is at http://127.0.0.1:{port} in a moment; Ctrl-C ends it")
            while all(process.is_running for process in running):
                time.sleep(0.2)
            ended = next(process for process in running if not process.is_running)
        except KeyboardInterrupt:
            return
        finally:
            _end(running)
    remedy = (
        "remove the cause, or choose another port with --port"
        if ended.name == "dagster-webserver"
        else "remove the cause, then start it again"
    )
    if ended.handle.returncode < 0:
        # The last line of a killed process does not contain the reason.
        raise EndedByItselfError(
            f"{ended.name} was killed (signal {-ended.handle.returncode}); start it again"
        )
    raise EndedByItselfError(
        f"{ended.name} ended by itself with exit code {ended.handle.returncode}: {ended.why} ({remedy})"
    )


def _answers(path: Path) -> bool:
    """Report whether a process listens on the socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


class _Process:
    """A child process. Its output is passed on until it is ended, and its last error is kept."""

    def __init__(self, name: str, command: list[str], root: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.handle = subprocess.Popen(  # noqa: S603 - our own program
            command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.is_ending = False
        self._last = self._error = ""
        threading.Thread(target=self._pass_on, args=(self.handle.stdout,), daemon=True).start()
        self._listener = threading.Thread(target=self._listen, args=(self.handle.stderr,), daemon=True)
        self._listener.start()

    @property
    def is_running(self) -> bool:
        return self.handle.poll() is None

    @property
    def why(self) -> str:
        """Return the last error, otherwise the last line."""
        # A child of the process may keep the pipe open after the process has ended.
        self._listener.join(_LAST_WORDS_S)
        return (self._error or self._last or "it wrote no reason")[:300]

    def _pass_on(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            if not self.is_ending:
                write_line(_COLOURS.sub("", line.decode(errors="replace")).rstrip())

    def _listen(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            text = _COLOURS.sub("", line.decode(errors="replace")).strip()
            if not self.is_ending:
                write_line(text, err=True)
            self._last = text or self._last
            self._error = text if "error" in text.lower() else self._error


def _make_instance(dagster: Path, root: Path, environment: dict[str, str]) -> None:
    """Create the files of the instance before two processes do it at the same time and damage them."""
    command = [str(dagster / "dagster"), "instance", "info"]
    made = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    if made.returncode:
        why = made.stderr.strip().rpartition("\n")[2].strip()[:200]
        raise CliError(f"Dagster's instance in {environment['DAGSTER_HOME']} cannot be loaded: {why}")


def _end(running: list[_Process]) -> None:
    """End all processes, the code server last: a daemon that loses it during a tick reports an error."""
    for process in running:
        process.is_ending = process.is_running  # output about the interruption is not shown
    for some in (running[1:], running[:1]):
        _interrupt(some)


def _interrupt(processes: list[_Process]) -> None:
    """Interrupt processes; kill those that still run after the grace period."""
    for process in processes:
        if process.is_running:
            process.handle.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _GRACE_S
    for process in processes:
        try:
            process.handle.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.handle.kill()


def _project_root() -> Path:
    """Return the nearest folder that contains workspace.yaml, here or above."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "workspace.yaml").is_file():
            return folder
    raise CliError("there is no workspace.yaml here or above; run it in the project's folder")
