"""Plans and folders of sessions: create, choose, list, hide, and end for good.

If the same session is started again before its planned end, the recorder appends to its recording. A session
whose planned end has passed is finished by the next command that opens it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from capture_pipeline.binance.streams.names import MAX_STREAMS, list_streams
from capture_pipeline.errors import ConfigError, LakeError
from capture_pipeline.lake.files import create_folder, publish_model, read_model
from capture_pipeline.lake.locks import file_lock
from capture_pipeline.recorder.storage.completion import finish_session
from capture_pipeline.sessions.layout import FOLDER, SessionFolder, session_id, symbols_label, valid_regime
from capture_pipeline.sessions.lock import lock_owner_pid, session_lock
from capture_pipeline.sessions.models import Ending, SessionMetadata, SessionPlan, SessionState
from capture_pipeline.settings.models import Settings
from capture_pipeline.terminal import report

_HIDDEN_PREFIX = ".aside-"
MAX_DURATION_S = 31 * 86_400
_CHOICE_LOCK, _CHOICE_PATIENCE_S = ".choice.lock", 60.0


def sessions_root(settings: Settings, output: Path | None = None) -> Path:
    """Return the folder of all sessions: `output`, or a folder below the storage root."""
    return output.absolute() if output else settings.storage.root / FOLDER


def create_plan(
    settings: Settings,
    symbols: list[str],
    regime: str,
    duration_s: float,
    *,
    description: str = "",
    start_us: int | None = None,
) -> SessionPlan:
    """Create the plan of a session that starts at `start_us`, or now.

    Raises:
        ConfigError: The regime is not valid, or the session has too many streams or is too long.
    """
    if not 0 < duration_s <= MAX_DURATION_S:
        raise ConfigError(
            f"a session cannot last {duration_s:g} s",
            where="duration",
            remedy=f"use more than 0 s and at most {MAX_DURATION_S // 86_400} days",
        )
    streams = list_streams(symbols, settings.market)
    if len(set(streams)) != len(streams) or len(streams) > MAX_STREAMS:
        what = f"{len(symbols)} symbols are {len(streams)} streams"
        raise ConfigError(
            what,
            where="symbols",
            remedy=f"name each symbol once, and at most {MAX_STREAMS // 2} in one session",
        )
    start_us = time.time_ns() // 1000 if start_us is None else start_us
    return SessionPlan(
        session=session_id(symbols, start_us, valid_regime(regime)),
        venue=settings.venue,
        market=str(settings.market),
        symbols=symbols,
        streams=streams,
        regime=valid_regime(regime),
        description=description,
        start_us=start_us,
        duration_s=duration_s,
        connections=settings.recording.connections,
    )


def list_open_sessions(root: Path, regime: str, symbols: list[str]) -> list[SessionFolder]:
    """List the unfinished sessions of these symbols in a regime, oldest first."""
    folders = [
        SessionFolder(path)
        for path in sorted((root / valid_regime(regime)).glob(f"*_{symbols_label(symbols)}"))
    ]
    return [
        folder
        for folder in folders
        if not folder.metadata.exists() and (plan := read_plan_if_valid(folder)) and plan.symbols == symbols
    ]


def read_plan_if_valid(folder: SessionFolder) -> SessionPlan | None:
    """Return the plan of a session, or None if it cannot be read: one damaged folder must not stop others."""
    try:
        return read_model(folder.plan, SessionPlan)
    except LakeError:
        return None


def read_plan(folder: SessionFolder) -> SessionPlan:
    """Read the plan of a session.

    Raises:
        LakeError: `session.json` does not exist or is damaged.
    """
    plan = read_model(folder.plan, SessionPlan)
    if plan is None:
        raise LakeError(
            "contains no session.json", where=str(folder.path), remedy="name the folder of a session"
        )
    return plan


def is_over(plan: SessionPlan, now_us: int | None = None) -> bool:
    """Return whether the planned end of a session has passed."""
    now_us = time.time_ns() // 1000 if now_us is None else now_us
    return now_us * 1000 >= plan.end_ns


def prepare(
    root: Path,
    plan: SessionPlan,
    *,
    resume_open: bool = True,
    on_hide: Callable[[Path], None] = lambda _: None,
) -> SessionFolder:
    """Return the folder to record into: an unfinished session of the same symbols and regime, or a new one.

    Args:
        root: Folder of all sessions.
        plan: Plan of a new session.
        resume_open: Whether to resume an unfinished session; otherwise its folder is renamed and kept.
        on_hide: Receives the new path of each folder that was renamed.

    Raises:
        BusyError: A recorder of the session is running, or another process has the lock for too long.
        ConfigError: The folder of the new session exists already.
    """
    # Without the lock, two simultaneous starts would each find no open session and record twice.
    with file_lock(root / _CHOICE_LOCK, _CHOICE_PATIENCE_S):
        return _choose_folder(root, plan, on_hide, resume_open=resume_open)


def _choose_folder(
    root: Path, plan: SessionPlan, on_hide: Callable[[Path], None], *, resume_open: bool
) -> SessionFolder:
    for folder in list_open_sessions(root, plan.regime, plan.symbols):
        if not resume_open:
            on_hide(hide_session(folder))
        elif not is_ending(folder, read_plan(folder)):
            return folder
        else:
            with session_lock(folder):
                metadata = finish_session(folder, read_plan(folder))
            figures = metadata.statistics
            report(
                f"{folder.session} is finished as {metadata.state}: "
                f"{figures['messages']:,} messages, {figures['ids_lost']:,} ids lost"
            )
    folder = SessionFolder.under(root, plan.regime, plan.session)
    create_folder(folder.path)
    if folder.plan.exists():
        raise ConfigError(
            "exists already",
            where=str(folder.path),
            remedy="start again in a second: its name contains the time",
        )
    publish_model(folder.plan, plan)
    return folder


def hide_session(folder: SessionFolder) -> Path:
    """Rename the folder of an unfinished session to a hidden name, so that it is kept and not resumed.

    Raises:
        BusyError: A recorder of the session is running.
    """
    with session_lock(folder):
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        hidden = folder.path.with_name(f"{_HIDDEN_PREFIX}{folder.session}-{stamp}-{uuid.uuid4().hex[:4]}")
        folder.path.rename(hidden)
        return hidden


def is_ending(folder: SessionFolder, plan: SessionPlan) -> bool:
    """Return whether recording is over: the end was requested, the finish began, or the time is over."""
    return folder.ending.exists() or folder.recording.exists() or is_over(plan)


def stop(folder: SessionFolder, settings: Settings) -> SessionMetadata | None:
    """End a session for good; its recorder finishes it, or this process does if no recorder runs.

    Returns:
        The metadata if the session is finished; None if its recorder was signalled.

    Raises:
        LakeError: `session.json` does not exist or is damaged.
    """
    plan = read_plan(folder)
    if folder.metadata.exists():
        return read_model(folder.metadata, SessionMetadata)
    if not folder.ending.exists():
        state = SessionState.COMPLETE if is_over(plan) else SessionState.INTERRUPTED
        publish_model(folder.ending, Ending(state=state))
    holder = lock_owner_pid(folder)
    if holder is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder, signal.SIGUSR1)
        return None
    with session_lock(folder):
        if folder.metadata.exists():
            return read_model(folder.metadata, SessionMetadata)
        return finish_session(folder, plan, settings)


def list_sessions(root: Path) -> list[SessionFolder]:
    """List the sessions below a root, newest first."""
    found = [
        SessionFolder(path.parent)
        for path in root.glob("*/*/session.json")
        if not path.parent.name.startswith(".")
    ]
    return sorted(found, key=lambda folder: folder.session, reverse=True)


def list_hidden_sessions(root: Path) -> list[SessionFolder]:
    """List the sessions that `hide_session` renamed, newest first."""
    found = [SessionFolder(path.parent) for path in root.glob(f"*/{_HIDDEN_PREFIX}*/session.json")]
    return sorted(found, key=lambda folder: folder.session, reverse=True)


def find_session(root: Path, session: str) -> SessionFolder:
    """Return the session of this id.

    Raises:
        ConfigError: No session below `root` has this id.
    """
    found = [folder for folder in list_sessions(root) if folder.session == session]
    if not found:
        raise ConfigError(
            f"{session!r} is not a session here", where=str(root), remedy="see `capture session list`"
        )
    return found[0]
