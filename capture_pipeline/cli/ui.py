"""`make ui`: Dagster's webserver and daemon as two processes on 127.0.0.1, ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from capture_pipeline.cli.console import CliError, one_line_errors
from capture_pipeline.cli.demo import SANDBOX_FILE, free_port, prepare
from capture_pipeline.sandbox.server import SandboxServer
from capture_pipeline.sandbox.settings import load_config
from capture_pipeline.settings import load_settings

_GRACE_S = 15.0


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
    """Start both, and end both when either ends or a signal comes."""
    workspace = ["-w", str(root / "workspace.yaml")]
    dagster = Path(sys.executable).parent
    _make_instance(dagster, root, environment)
    web = [str(dagster / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(port), *workspace, *(["--read-only"] if read_only else [])]
    daemon = [str(dagster / "dagster-daemon"), "run", *workspace]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    running = [subprocess.Popen(command, cwd=root, env=environment) for command in (web, daemon)]  # noqa: S603 - our own programs
    click.echo(f"Dagster is at http://127.0.0.1:{port} in a moment; Ctrl-C ends it")
    try:
        while all(process.poll() is None for process in running):
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    finally:
        _end(running)


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
