"""`status.json`, replaced each second.

The status is for people and sensors; data never depend on it.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated, Any

import psutil
from pydantic import AfterValidator, BaseModel, ConfigDict

from capture_pipeline.parsing import PARSE_ERRORS
from capture_pipeline.printable import printable
from capture_pipeline.sessions.models import Int64, RefillCount, SessionState, TimeUs

_FAILURES: tuple[type[Exception], ...] = (OSError, *PARSE_ERRORS)

PrintableText = Annotated[str, AfterValidator(printable)]
"""Text for people, without control characters."""


class _Figures(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class ConnectionStatus(_Figures):
    """One open connection: its number, slot, age, messages, and seconds since the last one."""

    number: Int64
    slot: Int64
    age_s: float
    messages: Int64
    silent_s: float


class Status(_Figures):
    """Content of `status.json`.

    Attributes:
        session: Id of the session.
        state: What the recorder does, or how the session ended.
        pid: Process id of the recorder.
        updated_ns: Time of this status, nanoseconds UTC.
        dead_since_ns: Time of the last status of a recorder that has ended or is silent, else None.
        started_us: Planned start of the session.
        ends_us: Planned end of the session.
        late_s: Seconds from the planned start to the first message, or to now before it; 0 if on time.
        messages: Lines recorded so far, over all processes.
        messages_per_s: Emitted messages per second, over the last five seconds.
        last_ids: Last id by stream.
        lag_ms: Capture time minus event time of the newest message; None before the first message, and if
            the venue has its own clock.
        file_bytes: Size of the recording.
        waiting_bytes: Bytes that are not written yet.
        disk_free_bytes: Free bytes on the disk of the recording.
        rss_bytes: Resident memory.
        held: Messages held back for a predecessor.
        dropped_messages: Messages lost because the disk had no room for them.
        gaps: Count of gaps in the ledger.
        ids_lost: Count of ids lost in the gaps.
        books: State of the local book by symbol.
        connections: Open connections.
        reconnects: Ended connections by cause.
        last_error: Latest error of a connection, until all of them deliver again.
        paused: Reason and end of a pause of REST requests.
        trouble: Error of the disk while it refuses.
        account: Received messages by what happened to them: written, duplicates and others; for a finished
            session as in `metadata.json`.
        altered: Descriptions of parts of the recording that were removed or altered during the recording.
        refills: Gaps that are or were requested from REST, by their state in the ledger.
    """

    session: str
    state: SessionState
    pid: Int64
    updated_ns: Int64
    dead_since_ns: Int64 | None = None
    started_us: TimeUs
    ends_us: TimeUs
    late_s: float = 0.0
    messages: Int64 = 0
    messages_per_s: float = 0.0
    last_ids: dict[str, Int64] = {}
    lag_ms: float | None = None
    file_bytes: Int64 = 0
    waiting_bytes: Int64 = 0
    disk_free_bytes: Int64 = 0
    rss_bytes: Int64 = 0
    held: Int64 = 0
    dropped_messages: Int64 = 0
    gaps: Int64 = 0
    ids_lost: Int64 = 0
    books: dict[str, str] = {}
    connections: list[ConnectionStatus] = []
    reconnects: dict[str, Int64] = {}
    last_error: PrintableText = ""
    paused: PrintableText = ""
    trouble: PrintableText = ""
    account: dict[str, Int64] = {}
    altered: list[PrintableText] = []
    refills: dict[str, RefillCount] = {}

    def without_live_values(self) -> Status:
        """Return the status of a recorder that has ended: without the values of a running process."""
        nothing: dict[str, Any] = {
            "connections": [],
            "books": {},
            "messages_per_s": 0.0,
            "lag_ms": None,
            "held": 0,
            "waiting_bytes": 0,
        }
        return self.model_copy(update={**nothing, "rss_bytes": 0, "dead_since_ns": self.updated_ns})


def publish_status(path: Path, status: Status) -> None:
    """Replace `status.json` without fsync; an error of the disk is ignored, because the next one follows."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        temporary.write_text(status.model_dump_json(indent=1) + "\n")
        temporary.replace(path)
        return
    with contextlib.suppress(OSError):
        temporary.unlink()


def read_status(path: Path) -> Status | None:
    """Read the status; None if it does not exist or is damaged."""
    try:
        return Status.model_validate_json(path.read_bytes())
    except _FAILURES:
        return None


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk that contains a folder; 0 if unknown."""
    try:
        return int(psutil.disk_usage(str(path)).free)
    except OSError:
        return 0
