"""Sessions as tables and lines of a terminal, and as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table

from capture_pipeline.binance.periods import iso
from capture_pipeline.errors import LakeError
from capture_pipeline.lake.files import read_model
from capture_pipeline.recorder.lifecycle import read_plan, read_plan_if_valid
from capture_pipeline.recorder.state import session_state
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionMetadata, SessionState
from capture_pipeline.sessions.status import Status

DAMAGED = "damaged"
"""State of a session of which a file cannot be read."""
SET_ASIDE = "set aside"
"""State of an unfinished session that `--no-resume` renamed; it is never resumed."""
_NO_PARTS = {"received", "written", "killed", "processes"}
_IN_WORDS = {"in_memory": "in memory", "difference": "not accounted for"}
_LATE_S = 5.0
"""Longer delays are shown. A recorder that was started by hand needs a second or two to connect."""


def overview(folders: list[SessionFolder]) -> Group:
    """Return a table of sessions: position, rate, gaps, disk, connections and books."""
    return Group(*(_one(folder) for folder in folders))


def _one(folder: SessionFolder) -> Table:
    document = session_document(folder)
    table = Table(
        title=f"{folder.session}  {document['state']}",
        title_justify="left",
        show_header=False,
        title_style="bold",
    )
    if document["state"] == DAMAGED:
        table.add_row("error", document["error"])
    elif document["status"] is not None:
        _add_rows(table, Status.model_validate(document["status"]), document["state"])
    return table


def _add_rows(table: Table, status: Status, state: SessionState) -> None:
    late = f", began {status.late_s:,.0f} s late" if status.late_s >= _LATE_S else ""
    table.add_row("time", f"{iso(status.started_us)} to {iso(status.ends_us)}{late}")
    if status.dead_since_ns is not None:
        # A recorder that has its session but reports nothing hangs, or its disk fails. If the state differs
        # from the reported one, the recorder has ended.
        what = f"no status since {_at(status)}" if state is status.state else f"dead since {_at(status)}"
        if status.state is SessionState.INTERRUPTED:
            what = f"ended at {_at(status)}"
        table.add_row("recorder", f"pid {status.pid}, {what}")
        table.add_row("messages", f"{status.messages:,}")
    else:
        table.add_row("messages", f"{status.messages:,}, {status.messages_per_s:,.1f}/s{_lag(status)}")
    _add_state(table, status)
    for refill, count in status.refills.items():
        table.add_row(
            "refills",
            f"{count.gaps:,} {refill}: {count.ids_refilled:,} of {count.ids_lost:,} ids returned by REST",
        )


def _at(status: Status) -> str:
    return iso((status.dead_since_ns or status.updated_ns) // 10**9 * 10**6)


def _lag(status: Status) -> str:
    return f", {status.lag_ms:,.1f} ms after the exchange's time" if status.lag_ms is not None else ""


def _account(account: dict[str, int]) -> str:
    """Return the counts of received messages by outcome, without zeros."""
    parts = [f"{account.get('written', 0):,} written"]
    parts += [
        f"{count:,} {_IN_WORDS.get(name, name)}"
        for name, count in account.items()
        if count and name not in _NO_PARTS
    ]
    killed = (
        f"; {account['killed']} recorders were killed; messages that they had not written are not counted"
        if account.get("killed")
        else ""
    )
    return f"{account['received']:,} received = {' + '.join(parts)}{killed}"


def _add_state(table: Table, status: Status) -> None:
    table.add_row(
        "gaps", f"{status.gaps:,}, {status.ids_lost:,} ids lost; {status.held:,} messages held back"
    )
    free = f"{status.disk_free_bytes / 1e9:,.1f} GB free"
    table.add_row(
        "file", f"{status.file_bytes / 1e6:,.2f} MB, {status.waiting_bytes / 1e3:,.0f} kB waiting, {free}"
    )
    if status.account:
        table.add_row("account", _account(status.account))
    for altered in status.altered:
        table.add_row("altered", altered)
    for name, text in (("error", status.last_error), ("paused", status.paused), ("disk", status.trouble)):
        if text:
            table.add_row(name, text)
    for one in status.connections:
        figures = f"open {one.age_s:,.0f} s, {one.messages:,} messages, last {one.silent_s:.1f} s ago"
        table.add_row(f"connection {one.number}", figures)
    if status.reconnects:
        table.add_row(
            "reconnects",
            ", ".join(f"{count} × {cause}" for cause, count in sorted(status.reconnects.items())),
        )
    if status.books:
        table.add_row("books", ", ".join(f"{symbol} {book}" for symbol, book in status.books.items()))


def state_lines(folders: list[SessionFolder]) -> list[str]:
    """Return one line per session: its id and its state."""
    return [f"{folder.session}: {session_document(folder)['state']}" for folder in folders]


def session_document(folder: SessionFolder) -> dict[str, Any]:
    """Return the state of a session for JSON, or its damage if its files are damaged."""
    head: dict[str, Any] = {"session": folder.session, "folder": str(folder.path)}
    try:
        state, status = session_state(folder)
    except LakeError as error:
        return {**head, "state": DAMAGED, "status": None, "error": str(error)}
    return {**head, "state": state, "status": status.model_dump() if status else None}


def session_row(folder: SessionFolder) -> dict[str, Any]:
    """Return a session as a row of a list; damaged files are reported in the row."""
    try:
        return _sound_row(folder)
    except LakeError as error:
        return {
            "session": folder.session,
            "regime": folder.path.parent.name,
            "state": DAMAGED,
            "error": str(error),
        }


def set_aside_row(folder: SessionFolder) -> dict[str, Any]:
    """Return a session that was set aside as a row, with its former id and its folder."""
    row = session_row(folder)
    session = str(plan.session) if (plan := read_plan_if_valid(folder)) is not None else folder.session
    return {
        **row,
        "session": session,
        "state": SET_ASIDE if row["state"] != DAMAGED else DAMAGED,
        "folder": str(folder.path),
    }


def damaged(rows: list[dict[str, Any]]) -> list[str]:
    """Return one line per damaged session."""
    return [f"{row['session']} is damaged: {row['error']}" for row in rows if row["state"] == DAMAGED]


def _sound_row(folder: SessionFolder) -> dict[str, Any]:
    state, status = session_state(folder)
    plan = read_plan(folder)
    metadata = read_model(folder.metadata, SessionMetadata)
    row: dict[str, Any] = {
        "session": folder.session,
        "regime": plan.regime,
        "state": state,
        "started": iso(plan.start_us),
        "hours": round(plan.duration_s / 3600, 3),
    }
    if metadata is not None:
        figures = metadata.statistics
        size = next((file.bytes for file in metadata.files if file.name == folder.recording.name), None)
        # Sessions imported by an earlier version count less.
        return {
            **row,
            **{name: figures.get(name) for name in ("messages", "gaps", "ids_lost")},
            "bytes": size,
        }
    if status is not None:
        row |= {
            "messages": status.messages,
            "gaps": status.gaps,
            "ids_lost": status.ids_lost,
            "bytes": status.file_bytes,
        }
    return row
