"""The current state of a session. `status.json` may be stale: a killed recorder leaves its last status."""

from __future__ import annotations

import time
from typing import NamedTuple

from capture_pipeline.lake.files import read_model
from capture_pipeline.recorder.lifecycle import is_ending, read_plan
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline.sessions.models import SessionMetadata, SessionState
from capture_pipeline.sessions.status import Status, read_status

OLD_S = 15.0
"""Age in seconds above which a status is stale; a running recorder writes one each second."""
_RENEWED = {SessionState.WAITING, SessionState.CONNECTING, SessionState.RECORDING, SessionState.DISK}


class CurrentState(NamedTuple):
    """State of a session, and the last status of its recorder; None before the first."""

    state: SessionState
    status: Status | None


def session_state(folder: SessionFolder) -> CurrentState:
    """Return the state of a session and its last status.

    If no recorder is running, the live values of the status are cleared.

    Raises:
        LakeError: The plan or the metadata are damaged.
    """
    status = read_status(folder.status)
    if folder.metadata.exists():
        metadata = read_model(folder.metadata, SessionMetadata)
        return CurrentState(metadata.state if metadata else SessionState.COMPLETE, status)
    past = status.without_live_values() if status else None
    holder = lock_owner_pid(folder)
    if holder is None:
        plan = read_plan(folder)
        is_due = time.time_ns() >= plan.start_us * 1000
        state = SessionState.INTERRUPTED if is_due else SessionState.PLANNED
        return CurrentState(SessionState.ENDED if is_ending(folder, plan) else state, past)
    if status is None or status.pid != holder:
        return CurrentState(SessionState.STARTING, past)
    is_old = status.state in _RENEWED and time.time_ns() - status.updated_ns > OLD_S * 1e9
    return CurrentState(status.state, past if is_old else status)


def live_status(folder: SessionFolder) -> Status | None:
    """Return the status of the running recorder; None before the recorder wrote one."""
    status = read_status(folder.status)
    return status if status is not None and status.pid == lock_owner_pid(folder) else None


def empty_session_reason(folder: SessionFolder) -> str:
    """Explain why a session is empty, from the last error in its status."""
    status = read_status(folder.status)
    why = status.last_error or status.trouble if status is not None else ""
    reason = why or "nothing was received; see events.jsonl and recorder.log"
    return f"{folder.session} ended without a message: {reason}"
