"""How a session stands now, whatever its last status claims: a recorder that was killed leaves one that speaks of it as alive."""

from __future__ import annotations

import time

from capture_pipeline.lake.files import read_model
from capture_pipeline.recorder.lifecycle import is_ending, read_plan
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline.sessions.models import SessionMetadata
from capture_pipeline.sessions.status import Status, read_status

OLD_S = 15.0
"""A status is renewed each second; one that is older says nothing of now."""
_RENEWED = {"waiting", "connecting", "recording", "disk"}


def session_state(folder: SessionFolder) -> tuple[str, Status | None]:
    """A session's state, and its last status, without what only a recorder at work can say where that one is not.

    Raises:
        LakeError: A file of it is damaged.
    """
    status = read_status(folder.status)
    if folder.metadata.exists():
        metadata = read_model(folder.metadata, SessionMetadata)
        return (metadata.state if metadata else "complete"), status
    holder = lock_owner_pid(folder)
    if holder is None:
        plan = read_plan(folder)
        begun = "planned" if time.time_ns() < plan.start_us * 1000 else "interrupted"
        return (
            "ended, not finished" if is_ending(folder, plan) else begun
        ), status.without_life() if status else None
    if status is None or status.pid != holder:
        return "starting", status.without_life() if status else None
    is_old = status.state in _RENEWED and time.time_ns() - status.updated_ns > OLD_S * 1e9
    return status.state, status.without_life() if is_old else status


def live_status(folder: SessionFolder) -> Status | None:
    """The status of the recorder at work; None before it wrote one, whatever the one before it left."""
    status = read_status(folder.status)
    return status if status is not None and status.pid == lock_owner_pid(folder) else None


def empty_session_reason(folder: SessionFolder) -> str:
    """Why a session is empty, as far as it is known."""
    status = read_status(folder.status)
    why = status.last_error or status.trouble if status is not None else ""
    return f"{folder.session} ended without a message: {why or 'nothing came; see events.jsonl and recorder.log'}"
