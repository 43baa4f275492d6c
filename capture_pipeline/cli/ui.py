"""`make ui`: Dagster's webserver and daemon as two processes on 127.0.0.1, ended together."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from capture_pipeline.cli.console import CliError, one_line_errors
from capture_pipeline.cli.demo import SANDBOX_FILE, free_port, prepare
from capture_pipeline.cli.exits import EXIT_FAILED
from capture_pipeline.sandbox.server import SandboxServer
from capture_pipeline.sandbox.settings import load_config
from capture_pipeline.settings import load_settings
from capture_pipeline.terminal import write_line

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
"""What Dagster puts around the words of its own log lines."""
_GRACE_S = 15.0
_LAST_WORDS_S = 2.0


class EndedByItselfError(CliError):
    """One of the two processes ended without being told to."""

    exit_code = EXIT_FAILED


@click.command("ui")
@click.option("--port", default=3000, show_default=True, help="Port of the webserver.")
@click.option("--demo", is_flag=True, help="Show the demo's data, with the sandbox exchange running beside it.")
@click.option("--read-only", is_flag=True, help="Let nobody launch or change anything.")
def ui_command(port: int, demo: bool, read_only: bool) -> None:  # noqa: FBT001 - options are passed by name
    """Open Dagster: webserver and daemon, bound to 127.0.0.1. DAGSTER_HOME is the project's own unless it is set."""
    root = _project_root()
    with one_line_errors(), _venue(root, demo=demo) as environment:
        load_settings(environ={**os.environ, **environment})
        _run(root, port, {"DAGSTER_HOME": str(root / "dagster_home"), **os.environ, **environment}, read_only=read_only)


@contextlib.contextmanager
def _venue(root: Path, *, demo: bool) -> Iterator[dict[str, str]]:
    """The environment of the chosen deployment; for the demo its sandbox exchange runs meanwhile."""
    if not demo:
        yield {}
        return
    settings = prepare(root / "demo")
    with SandboxServer(load_config(root / "demo" / SANDBOX_FILE), free_port(8650)) as server:
        yield {"CAPTURE_CONFIG": str(settings), "CAPTURE_SANDBOX_URL": server.url}


def _run(root: Path, port: int, environment: dict[str, str], *, read_only: bool) -> None:
    """Start both, and end both when either ends or a signal comes.

    Raises:
        EndedByItselfError: One of them ended; the other one was ended too.
    """
    workspace = ["-w", str(root / "workspace.yaml")]
    dagster = Path(sys.executable).parent
    _make_instance(dagster, root, environment)
    web = [sys.executable, "-m", "capture_pipeline.webserver", "-h", "127.0.0.1", "-p", str(port), *workspace]
    daemon = [str(dagster / "dagster-daemon"), "run", *workspace]
    commands = {"dagster-webserver": [*web, *(["--read-only"] if read_only else [])], "dagster-daemon": daemon}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    running: list[_Process] = []
    try:
        for name, command in commands.items():
            running.append(_Process(name, command, root, environment))
        write_line(f"Dagster is at http://127.0.0.1:{port} in a moment; Ctrl-C ends it")
        while all(process.is_running for process in running):
            time.sleep(0.2)
        ended = next(process for process in running if not process.is_running)
    except KeyboardInterrupt:
        return
    finally:
        _end([process.handle for process in running])
    remedy = "mend that, or choose another port with --port" if ended is running[0] else "mend that, then start it again"
    if ended.handle.returncode < 0:
        # Its last line is of what it was doing, and says nothing of who killed it.
        raise EndedByItselfError(f"{ended.name} was killed (signal {-ended.handle.returncode}); start it again")
    raise EndedByItselfError(f"{ended.name} ended by itself with exit code {ended.handle.returncode}: {ended.why} ({remedy})")


class _Process:
    """A program of ours that passes on what it writes to standard error and remembers why it ended."""

    def __init__(self, name: str, command: list[str], root: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.handle = subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE)  # noqa: S603 - our own program
        self._last = self._error = ""
        self._listener = threading.Thread(target=self._listen, args=(self.handle.stderr,), daemon=True)
        self._listener.start()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.handle.poll() is None

    @property
    def why(self) -> str:
        """Its last error, else its last line."""
        # What it started may hold the pipe open for longer than it lived itself.
        self._listener.join(_LAST_WORDS_S)
        return (self._error or self._last or "it did not say why")[:300]

    def _listen(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            text = _COLOURS.sub("", line.decode(errors="replace")).strip()
            write_line(text, err=True)
            self._last = text or self._last
            self._error = text if "error" in text.lower() else self._error


def _make_instance(dagster: Path, root: Path, environment: dict[str, str]) -> None:
    """Make the instance's own files before two processes look for them: on a first start both would, and spoil each other's."""
    command = [str(dagster / "dagster"), "instance", "info"]
    made = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    if made.returncode:
        why = made.stderr.strip().rpartition("\n")[2].strip()[:200]
        raise CliError(f"Dagster's instance in {environment['DAGSTER_HOME']} cannot be loaded: {why}")


def _end(running: list[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + _GRACE_S
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def _project_root() -> Path:
    """The folder that holds workspace.yaml, here or above."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "workspace.yaml").is_file():
            return folder
    raise CliError("there is no workspace.yaml here or above; run it in the project's folder")
