"""`status.json`, renewed each second, and the same as Prometheus text. What it says is for people and sensors; data never depend on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from capture_pipeline.parsing import PARSE_ERRORS
from capture_pipeline.printable import printable
from capture_pipeline.sessions.models import Int64, RefillCount, TimeUs

_FAILURES: tuple[type[Exception], ...] = (OSError, *PARSE_ERRORS)
_METRICS = {
    "messages": ("counter", "Messages recorded"),
    "messages_per_s": ("gauge", "Messages a second, over the last five seconds"),
    "late_s": ("gauge", "Seconds from the planned start to the first message"),
    "file_bytes": ("counter", "Bytes of the recording"),
    "waiting_bytes": ("gauge", "Bytes that wait for the disk"),
    "disk_free_bytes": ("gauge", "Free bytes where it records"),
    "dropped_messages": ("counter", "Messages that the disk had no room for"),
    "gaps": ("counter", "Gaps in the ledger"),
    "ids_lost": ("counter", "Ids lost"),
    "held": ("gauge", "Messages held back for a predecessor"),
    "lag_ms": ("gauge", "Capture time less event time of the newest message"),
    "rss_bytes": ("gauge", "Resident memory"),
}

_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"'})


PrintableText = Annotated[str, AfterValidator(printable)]
"""A text for people."""


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
    """What a recorder does now.

    Attributes:
        session: Its id.
        state: starting, waiting (for a planned start), connecting, recording, disk, finishing, interrupted, complete or empty.
        pid: Of the recorder.
        updated_ns: When this was written, nanoseconds UTC.
        dead_since_ns: When the recorder last told of itself, where it is gone or tells nothing any more; None of one at work.
        started_us: Planned start of the session.
        ends_us: Its planned end.
        late_s: Seconds from that start to the first message, or to now while there is none; 0 where it began in time.
        messages: Lines recorded so far, over all processes.
        messages_per_s: Messages let through a second, over the last five seconds.
        last_ids: Last id by stream.
        lag_ms: Capture time less event time of the newest message; None before one came, and where the venue has a clock of its own.
        file_bytes: Size of the recording.
        waiting_bytes: What waits for the disk.
        disk_free_bytes: Free where it records.
        rss_bytes: Resident memory.
        held: Messages held back for a predecessor.
        dropped_messages: Lost because the disk had no room for them.
        gaps: Gaps in the ledger.
        ids_lost: Ids lost in them.
        books: State of the local book by symbol.
        connections: Those open.
        reconnects: Ends of connections, by cause.
        last_error: The latest error of a connection, until all of them deliver again.
        paused: Why no REST request may be sent, and until when.
        trouble: What the disk says while it refuses.
        account: What became of the messages received: written, duplicates, and so on; of a finished session as in `metadata.json`.
        altered: Parts of the recording that somebody removed or altered while it was written, a line each.
        refills: Gaps that REST is or was asked about, by their state in the ledger.
    """

    session: str
    state: str
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
        """The same of a recorder that is gone: what was recorded, and nothing of what it was doing."""
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
    """Replace `status.json` whole; without fsync, and a disk that refuses is not worth an error here."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        beside.write_text(status.model_dump_json(indent=1) + "\n")
        beside.replace(path)
        return
    with contextlib.suppress(OSError):
        beside.unlink()


def read_status(path: Path) -> Status | None:
    """The status, None where there is none that can be read."""
    try:
        return Status.model_validate_json(path.read_bytes())
    except _FAILURES:
        return None


def prometheus_text(status: Status) -> str:
    """The numbers of a status in Prometheus' text format."""
    label = f'session="{_label(status.session)}"'
    values: dict[str, Any] = status.model_dump()
    lines = []
    for name, (kind, text) in _METRICS.items():
        if values[name] is not None:
            full = f"capture_{name}_total" if kind == "counter" else f"capture_{name}"
            lines += [f"# HELP {full} {text}.", f"# TYPE {full} {kind}", f"{full}{{{label}}} {values[name]}"]
    full = "capture_connections"
    lines += [
        f"# HELP {full} Open connections.",
        f"# TYPE {full} gauge",
        f"{full}{{{label}}} {len(status.connections)}",
    ]
    error = _label(status.last_error)
    lines += [
        "# HELP capture_connection_error 1 while a connection does not deliver, with its error.",
        "# TYPE capture_connection_error gauge",
    ]
    lines += [f'capture_connection_error{{{label},error="{error}"}} {int(bool(error))}']
    return "\n".join(lines) + "\n"


def _label(text: str) -> str:
    """Write a text as the value of a label."""
    return printable(text).translate(_ESCAPES)


async def serve_metrics(port: int, text: Callable[[], str]) -> asyncio.Server:
    """Answer every GET on a port of 127.0.0.1 with `text()`.

    Raises:
        OSError: The port is taken.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            body = text().encode()
            head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port)


def free_bytes(path: Path) -> int:
    """Free bytes of the disk that holds a folder; 0 where it cannot be told."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0


def rss_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except _FAILURES:
        return 0
