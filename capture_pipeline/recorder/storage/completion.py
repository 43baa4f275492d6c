"""Completion of a session: read and hash the recording, rename it, write checksums, then `metadata.json`.

Each step can be repeated. After a crash, the next command that opens the session finishes it.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from capture_pipeline.lake.files import (
    atomic_write,
    fsync,
    publish_bytes,
    publish_model,
    read_model,
    sha256_file,
    storage_errors,
)
from capture_pipeline.recorder.background.trade_backfill import end_refill
from capture_pipeline.recorder.events import RecordingRepaired
from capture_pipeline.recorder.storage.event_log import EventLog
from capture_pipeline.recorder.storage.recovery import RecoveredSession, list_parts, recover_session
from capture_pipeline.sessions.account import AccountState, account_summary, read_account
from capture_pipeline.sessions.continuity import compute_gap_ratios
from capture_pipeline.sessions.counts import SessionCounts
from capture_pipeline.sessions.gap_ledger import read_gaps, write_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import (
    Ending,
    FileRecord,
    Gap,
    RefillCount,
    SessionMetadata,
    SessionPlan,
    SessionState,
    count_refills,
)
from capture_pipeline.sessions.status import publish_status, read_status
from capture_pipeline.settings.models import Settings

_STEP = 1 << 20
_PACKAGES = ("capture-pipeline", "websockets", "isal", "msgspec", "pydantic")


def finish_session(
    folder: SessionFolder, plan: SessionPlan, settings: Settings | None = None
) -> SessionMetadata:
    """Finish a session and its status.

    Args:
        folder: The session; the caller has its lock.
        plan: Plan of the session.
        settings: Settings of its recorder; None if they are not known.

    Raises:
        StorageError: A file cannot be written; the session can be finished later.
    """
    state = _final_state(folder, plan)
    read = recover_session(folder, whole=True)
    log = EventLog(folder.events, lambda: read.last_ns)
    for line in read.repairs:
        log.write(RecordingRepaired(line))
    # Only the latest version of each gap is kept.
    write_gaps(folder.gaps, [end_refill(gap, folder.refilled) for gap in read_gaps(folder.gaps)])
    _join(folder)
    metadata = SessionMetadata(
        plan=plan,
        state=state if read.messages else SessionState.EMPTY,
        started_ns=read.first_ns or None,
        ended_ns=read.last_ns or None,
        files=_files(folder),
        statistics=statistics(read, read_gaps(folder.gaps), plan),
        audits=read.checkpoint.audits,
        clock={
            "samples": read.checkpoint.clock,
            "offset_ms": _median([sample["offset_ms"] for sample in read.checkpoint.clock]),
        },
        host=host_information(),
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        configuration=_configuration(settings) if settings else {},
    )
    publish_bytes(
        folder.checksums, "".join(f"{file.sha256}  {file.name}\n" for file in metadata.files).encode()
    )
    publish_model(folder.metadata, metadata)
    folder.checkpoint.unlink(missing_ok=True)
    folder.account.unlink(missing_ok=True)
    folder.ending.unlink(missing_ok=True)
    _report_end(folder, metadata)
    return metadata


def _final_state(folder: SessionFolder, plan: SessionPlan) -> SessionState:
    """Return the final state of a session.

    `complete` if a recorder received until the planned end and wrote all messages, else `interrupted`.
    """
    account, ending = read_account(folder.account), read_model(folder.ending, Ending)
    if account is None:
        return ending.state if ending else SessionState.INTERRUPTED
    is_whole = account.state is AccountState.CLOSED and account.until_ns >= plan.end_ns
    return SessionState.COMPLETE if is_whole else SessionState.INTERRUPTED


def _report_end(folder: SessionFolder, metadata: SessionMetadata) -> None:
    last = read_status(folder.status)
    if last is not None:
        figures = {name: metadata.statistics[name] for name in ("messages", "gaps", "ids_lost")}
        nothing = {"connections": [], "messages_per_s": 0.0, "waiting_bytes": 0, "held": 0}
        account = metadata.statistics.get("accounting") or {}
        nothing["account"] = {name: count for name, count in account.items() if isinstance(count, int)}
        nothing["refills"] = {
            state: RefillCount(**count) for state, count in metadata.statistics.get("refills", {}).items()
        }
        ended = last.model_copy(
            update={**figures, **nothing, "state": metadata.state, "updated_ns": time.time_ns()}
        )
        publish_status(folder.status, ended)


def _configuration(settings: Settings) -> dict[str, object]:
    """Return the settings that decide how a session is recorded."""
    return {
        "recording": settings.recording.model_dump(mode="json"),
        "stream_url": settings.stream_url,
        "rest_url": settings.rest_url,
        "market": str(settings.market),
    }


def _join(folder: SessionFolder) -> None:
    """Give the recording its final name. Parts are concatenated, which is valid for gzip members."""
    parts = list_parts(folder)
    with storage_errors(folder.recording):
        if not parts or parts == [folder.recording]:
            return
        if len(parts) == 1:
            fsync(parts[0])
            parts[0].rename(folder.recording)
            fsync(folder.path)
            return
        with atomic_write(folder.recording) as temporary, temporary.open("wb") as file:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file, _STEP)
        for part in reversed(parts):
            part.unlink()


def _files(folder: SessionFolder) -> list[FileRecord]:
    return [
        FileRecord(name=_name(path, folder), bytes=path.stat().st_size, sha256=sha256_file(path))
        for path in folder.files()
    ]


def _name(path: Path, folder: SessionFolder) -> str:
    return path.relative_to(folder.path).as_posix()


def statistics(read: RecoveredSession, gaps: list[Gap], plan: SessionPlan) -> dict[str, Any]:
    """Compute the statistics of a session from its recording and its ledger."""
    tracks, counts = read.tracks, SessionCounts.parse(read.checkpoint.counts)
    seconds = (read.last_ns - read.first_ns) / 1e9
    ratios = compute_gap_ratios(list(tracks.values()))
    causes: dict[str, int] = {}
    for gap in gaps:
        causes[gap.cause] = causes.get(gap.cause, 0) + 1
    return {
        "messages": read.messages,
        "messages_by_stream": {stream: track.messages for stream, track in sorted(tracks.items())},
        "messages_per_s": {
            stream: round(track.messages / seconds, 3) if seconds > 0 else 0.0
            for stream, track in sorted(tracks.items())
        },
        "first_and_last_id": {stream: [track.first, track.last] for stream, track in sorted(tracks.items())},
        "duration_s": round(seconds, 6),
        "planned_s": plan.duration_s,
        "late_s": round(plan.late_s(read.first_ns), 3) if read.first_ns else None,
        "uptime_percent": round(
            100
            * uptime(gaps, read.first_ns, max([read.last_ns, *(gap.end_ns for gap in gaps if gap.at_end)])),
            6,
        ),
        "gap_ratio_ids": ratios.lost_ids,
        "gap_ratio_events": ratios.lost_events,
        "gap_ratio_discontinuities": ratios.discontinuities,
        "gaps": len(gaps),
        "gaps_by_cause": causes,
        "ids_lost": sum(gap.ids_lost for gap in gaps),
        "refills": {str(state): count.model_dump() for state, count in count_refills(gaps).items()},
        "duplicates": sum(track.duplicates for track in tracks.values()),
        "bad_lines": read.bad,
        "suspect_segments": 0,
        "tail_dropped_messages": 0,
        "torn_lines": read.torn_lines,
        "mended_damage": read.damage_count,
        "accounting": account_summary(read.account, read.messages) if read.account else None,
        "reconnects": counts.connection_ends.total(),
        "reconnects_by_cause": dict(counts.connection_ends),
        "merge": asdict(counts.merge) if read.checkpoint.counts else {},
        **(counts.messages_by_name() if read.checkpoint.counts else {}),
    }


def uptime(gaps: list[Gap], start_ns: int, end_ns: int) -> float:
    """Return the share of the time in which no stream had a gap; 0 for an empty period."""
    down, covered_to = 0, start_ns
    for gap in sorted(gaps, key=lambda gap: gap.start_ns):
        start, end = max(gap.start_ns, covered_to), min(gap.end_ns, end_ns)
        down += max(0, end - start)
        covered_to = max(covered_to, end)
    return 1 - down / (end_ns - start_ns) if end_ns > start_ns else 0.0


def host_information() -> dict[str, Any]:
    """Describe the machine and the Python implementation."""
    system = os.uname()
    return {
        "name": system.nodename,
        "system": f"{system.sysname} {system.release}",
        "machine": system.machine,
        "cpus": os.cpu_count(),
        "python": sys.implementation.name,
    }


def _median(values: list[float]) -> float | None:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else None
