"""Conditions without an event, checked at each tick: sessions that are down or late, and the free disk."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from capture_pipeline.binance.periods import SECOND_US, iso
from capture_pipeline.errors import LakeError
from capture_pipeline.operations.alerts.models import Alert, State
from capture_pipeline.recorder.lifecycle import list_sessions, read_plan_if_valid
from capture_pipeline.recorder.state import CurrentState, session_state
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan, SessionState
from capture_pipeline.sessions.status import free_bytes
from capture_pipeline.settings.levels import Level
from capture_pipeline.settings.models import Settings

GRACE_US = 60 * SECOND_US
"""Shorter interruptions are not reported: a recorder is restarted, or replaces its connections, within this
time."""
DISK_KEY, SESSION_PREFIX = "disk", "session:"
_RELEASE = 1.05
"""The disk alert ends at this multiple of the reserve, so that a value near the reserve does not send many
messages."""


def check_disk(settings: Settings) -> Alert | None:
    """Compare the free disk space with `recording.free_disk_gb`.

    Returns:
        An alert if the free space is below the reserve, the end of the alert if it is at least `_RELEASE`
        times the reserve, otherwise None.
    """
    root = settings.storage.root
    folder = next((path for path in (root, *root.parents) if path.is_dir()), root)
    free_gb, reserve_gb = free_bytes(folder) / 1e9, settings.recording.free_disk_gb
    fields = {
        "free": f"{free_gb:.1f} GB",
        "reserve": f"{reserve_gb:g} GB (recording.free_disk_gb)",
        "folder": str(root),
    }
    if free_gb < reserve_gb:
        text = "No session starts, and recordings may lose messages. Free disk space."
        return Alert(
            key=DISK_KEY,
            level=Level.CRITICAL,
            title="The disk is below its reserve",
            text=text,
            fields=fields,
        )
    if free_gb >= reserve_gb * _RELEASE:
        title = "The disk is above its reserve"
        return Alert(key=DISK_KEY, level=Level.CRITICAL, state=State.RESOLVED, title=title, fields=fields)
    return None


def check_sessions(root: Path, now_us: int, open_keys: Collection[str]) -> list[Alert]:
    """Return alerts for sessions with a problem, and the ends of open alerts whose problem has ended.

    Args:
        root: Folder of the sessions.
        now_us: The present, microseconds UTC.
        open_keys: Keys of the open alerts.
    """
    found, sessions = {}, {folder.session: folder for folder in list_sessions(root)}
    for folder in sessions.values():
        key = f"{SESSION_PREFIX}{folder.session}"
        if not folder.metadata.exists() and (alert := _check_session(folder, key, now_us)) is not None:
            found[key] = alert
    ended = [key for key in open_keys if key.startswith(SESSION_PREFIX) and key not in found]
    return [*found.values(), *(_resolve(key, sessions) for key in ended)]


def _check_session(folder: SessionFolder, key: str, now_us: int) -> Alert | None:
    plan = read_plan_if_valid(folder)
    if plan is None:
        text = f"{folder.plan} cannot be read. The session is neither recorded nor finished."
        return Alert(
            key=key, level=Level.CRITICAL, title=f"Session {folder.session} has no usable plan", text=text
        )
    try:
        current = session_state(folder)
    except LakeError as error:
        return Alert(
            key=key, level=Level.CRITICAL, title=f"Session {folder.session} is damaged", text=str(error)
        )
    problem = _find_problem(plan, current, now_us)
    if problem is None:
        return None
    fields = {
        "state": str(current.state),
        "symbols": ", ".join(plan.symbols),
        "ends": iso(plan.end_ns // 1000 // SECOND_US * SECOND_US),
    }
    status = current.status
    if status is not None and (trouble := status.trouble or status.last_error):
        fields["last error"] = trouble
    title = f"Session {folder.session} {problem.what}"
    return Alert(key=key, level=problem.level, title=title, text=problem.text, fields=fields)


@dataclass(frozen=True)
class _Problem:
    level: Level
    what: str
    text: str


def _find_problem(plan: SessionPlan, current: CurrentState, now_us: int) -> _Problem | None:
    """Return the problem of an unfinished session.

    None if the session has no problem, or the problem is younger than `GRACE_US`.
    """
    state, status = current
    seen_us = status.updated_ns // 1000 if status is not None else plan.start_us
    silent_us = now_us - max(seen_us, plan.start_us)
    restart = (
        f"Start it again: capture session start --symbol {','.join(plan.symbols)} --regime {plan.regime}"
    )
    if state is SessionState.ENDED:
        is_due = now_us - max(seen_us, plan.end_ns // 1000) > GRACE_US
        return (
            _Problem(
                Level.WARNING, "ended and is not finished", f"Finish it: capture session stop {plan.session}"
            )
            if is_due
            else None
        )
    if silent_us > GRACE_US and (
        state is SessionState.INTERRUPTED or (status is not None and status.dead_since_ns is not None)
    ):
        is_gone = state is SessionState.INTERRUPTED
        text = (
            restart
            if is_gone
            else f"Its recorder does not report. Stop it: capture session stop {plan.session}"
        )
        since = iso((now_us - silent_us) // SECOND_US * SECOND_US)
        return _Problem(Level.CRITICAL, f"has been down since {since}", text)
    if state is SessionState.DISK:
        return _Problem(
            Level.CRITICAL,
            "cannot write",
            "Messages cannot be written to the disk. They wait in memory, and are lost when it is full.",
        )
    late_us = now_us - plan.start_us
    if status is not None and not status.messages and late_us > GRACE_US:
        text = f"It received no message for {late_us / 1e6:.0f} s since its start."
        return _Problem(Level.WARNING, "is late", text)
    return None


def _resolve(key: str, sessions: Mapping[str, SessionFolder]) -> Alert:
    session = key.removeprefix(SESSION_PREFIX)
    is_finished = session in sessions and sessions[session].metadata.exists()
    title = f"Session {session} {'is finished' if is_finished else 'is recorded again'}"
    return Alert(key=key, level=Level.CRITICAL, state=State.RESOLVED, title=title)
