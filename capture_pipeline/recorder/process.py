"""The recorder as a separate process: start it, attach to a running one, and restart it if it dies.

The recorder has its own process group, so it continues if the process that follows it dies.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import stamina

from capture_pipeline.errors import StorageError, TransientError
from capture_pipeline.lake.files import read_model, storage_errors
from capture_pipeline.recorder.state import live_status
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline.sessions.models import SessionMetadata
from capture_pipeline.sessions.status import Status

LOOK_S = 1.0
_FIRST_WAIT_S, _MAX_WAIT_S = 1.0, 8.0
_STEADY_S = 60.0
"""Seconds of work after which a recorder counts as started."""


def launch(
    folder: SessionFolder, config: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a recorder for a prepared session; its output goes to `recorder.log` in the session folder.

    Args:
        folder: The session.
        config: Path of the settings file; None for the nearest one.
        environment: Variables in addition to those of this process.

    Raises:
        StorageError: The log file cannot be written.
    """
    command = [sys.executable, "-m", "capture_pipeline.recorder", str(folder.path)]
    if config is not None:
        command += ["--config", str(config)]
    with storage_errors(folder.log), folder.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - the command is this interpreter and a folder of the project
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            close_fds=True,
        )


def follow(
    folder: SessionFolder,
    config: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    patience_s: float = 900.0,
) -> Iterator[Status | None]:
    """Keep a session recorded until it is finished.

    Args:
        folder: A prepared session.
        config: Path of the settings file for a recorder that is started.
        environment: Additional variables for that recorder.
        patience_s: Longest time without progress while the recorder dies repeatedly.

    Yields:
        The status of the running recorder, each second; None while no recorder has written one.

    Raises:
        TransientError: The recorder died repeatedly; the message contains the last line of its log.
    """
    while not folder.metadata.exists():
        # A recorder that works for some time ends a series of attempts: the waits and the patience start
        # again.
        for attempt in stamina.retry_context(
            on=TransientError,
            attempts=None,
            timeout=patience_s,
            wait_initial=_FIRST_WAIT_S,
            wait_max=_MAX_WAIT_S,
            wait_jitter=0.0,
        ):
            with attempt:
                yield from _follow_one(folder, config, environment)


def _follow_one(
    folder: SessionFolder, config: Path | None, environment: Mapping[str, str] | None
) -> Iterator[Status | None]:
    """Follow the running recorder, or a new one, until the session is finished or no recorder is running.

    Raises:
        TransientError: The new recorder died within `_STEADY_S`, or did not lock the session in that time.
    """
    started_s, was_at_work = time.monotonic(), lock_owner_pid(folder) is not None
    process = None if was_at_work else launch(folder, config, environment)
    while not folder.metadata.exists():
        yield live_status(folder)
        time.sleep(LOOK_S)
        age_s, is_at_work = time.monotonic() - started_s, lock_owner_pid(folder) is not None
        was_at_work = was_at_work or is_at_work
        if is_at_work or folder.metadata.exists():
            continue
        if process is None or (was_at_work and age_s > _STEADY_S):
            return
        if process.poll() is not None or age_s > _STEADY_S:
            raise TransientError(
                f"the recorder dies repeatedly: {read_last_log_line(folder)}",
                where=str(folder.path),
                remedy="see recorder.log",
            )
    if process is not None:
        process.wait(_STEADY_S)


def read_finished_metadata(folder: SessionFolder) -> SessionMetadata:
    """Read the metadata of a finished session.

    Raises:
        StorageError: `metadata.json` does not exist.
    """
    metadata = read_model(folder.metadata, SessionMetadata)
    if metadata is None:
        raise StorageError(
            "is not finished: metadata.json is missing",
            where=str(folder.path),
            remedy=f"run `capture session stop {folder.session}`",
        )
    return metadata


def read_last_log_line(folder: SessionFolder) -> str:
    """Return the last line that a recorder wrote to its log."""
    try:
        lines = folder.log.read_text(errors="replace").splitlines()
    except OSError:
        return "recorder.log does not exist"
    return lines[-1][:500] if lines else "recorder.log is empty"
