"""Whether a recording is a golden sample: every check, over a file or the folder of a session. What it needs is in `scan` and `replay`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.scan.parallel import scan
from capture_pipeline.golden.scan.scan import Scan
from capture_pipeline.golden.validation.book import BOOK_CHECKS, book_checks, without_book
from capture_pipeline.golden.validation.book_replay import Replay, replay
from capture_pipeline.golden.validation.ids import id_checks
from capture_pipeline.golden.validation.report import Check, Report, Thresholds, Verdict
from capture_pipeline.golden.validation.session import NEVER_CAME, planned_of, session_checks, stream_check
from capture_pipeline.golden.validation.size import form_checks, gap_seconds, size_checks
from capture_pipeline.sessions.continuity import compute_gap_ratios
from capture_pipeline.sessions.layout import SessionFolder

BOOK_UP_TO_BYTES = 64 << 20
"""Recordings up to this size have their book replayed without being asked for it."""
DEFAULTS = Thresholds()
_WHATEVER_IS_LACKING = frozenset({"file", "messages", "duration", "checksums", "disk", "accounting"})
"""Checks of files and counts, and those that are judged by the least that is there."""


def validate(path: Path, thresholds: Thresholds = DEFAULTS, *, book: bool | None = None) -> Report:
    """Hold a recording to its thresholds.

    Args:
        path: A recording, or the folder of a session; only there ledger and checksums can be checked.
        thresholds: What it has to keep.
        book: Replay the order book too; None does so for recordings up to `BOOK_UP_TO_BYTES`.

    Returns:
        Every check, and statistics.

    Raises:
        MalformedDataError: There is no recording, or it cannot be read at all.
    """
    recording, folder = locate(path)
    found = scan(recording)
    wanted = found.size <= BOOK_UP_TO_BYTES if book is None else book
    replayed, trouble = _replayed(recording, found, wanted=wanted)
    in_session = session_checks(found, folder)
    listed = folder is not None and any(
        check.name == "ledger" and check.verdict is Verdict.PASS for check in in_session
    )
    checks = [
        *form_checks(found),
        *id_checks(found, thresholds, listed=listed),
        stream_check(found, folder, thresholds),
    ]
    checks += [*size_checks(found, thresholds, planned_of(found, folder)), *in_session]
    checks += (
        book_checks(replayed, thresholds)
        if replayed
        else without_book(trouble, broken=wanted and not found.bad)
    )
    doubted = [_doubted(check, _unread(found), _never_came(checks)) for check in checks]
    return Report(recording, [_advised(check, thresholds) for check in doubted], statistics(found, replayed))


def locate(path: Path) -> tuple[Path, SessionFolder | None]:
    """The recording that `path` is or holds, and the session it belongs to.

    Raises:
        MalformedDataError: There is none.
    """
    if not path.is_dir():
        return path, None
    folder = SessionFolder(path.resolve())
    if (parts := len(folder.segments())) > 1:
        raise MalformedDataError(
            f"the recording still grows and is in {parts} parts",
            where=str(path),
            remedy="let the session finish, or resume it",
        )
    plain = [
        file
        for file in sorted(path.glob("*.jsonl"))
        if file not in {folder.gaps, folder.events, folder.refilled}
    ]
    candidates = [
        folder.recording,
        folder.growing,
        *sorted(path.glob("*.jsonl.gz")),
        *sorted(path.glob("*.jsonl.gz.part")),
        *plain,
    ]
    for candidate in candidates:
        if candidate.is_file():
            return candidate, folder
    raise MalformedDataError(
        "holds no recording", where=str(path), remedy="name a recording, or the folder of one session"
    )


def statistics(found: Scan, replayed: Replay | None) -> dict[str, Any]:
    """Figures for people and for metadata."""
    streams = [stream for _, stream in sorted(found.streams.items())]
    ratios = compute_gap_ratios([stream.track for stream in streams if stream.track.first >= 0])
    down = gap_seconds(found)
    return {
        "messages": found.lines,
        "bytes": found.size,
        "sha256": found.sha256,
        "started_ns": found.first_ns,
        "ended_ns": found.last_ns,
        "duration_s": round(found.duration_s, 6),
        "gap_seconds": round(down, 6),
        "uptime": 1 - down / found.duration_s if found.duration_s else None,
        "gap_ratio_ids": ratios.lost_ids,
        "gap_ratio_events": ratios.lost_events,
        "gap_ratio_discontinuities": ratios.discontinuities,
        "streams": {
            stream.name: {
                "messages": stream.track.messages,
                "per_second": round(stream.track.messages / found.duration_s, 3)
                if found.duration_s
                else None,
                "first_id": stream.track.first if stream.track.first >= 0 else None,
                "last_id": stream.track.last if stream.track.first >= 0 else None,
                "gaps": stream.track.gaps,
                "ids_lost": stream.track.lost,
                "duplicates": stream.track.duplicates,
                "overlaps": stream.track.overlaps,
            }
            for stream in streams
        },
        "book": replayed.to_dict() if replayed else None,
    }


def _replayed(recording: Path, found: Scan, *, wanted: bool) -> tuple[Replay | None, str]:
    """The books, or why there are none."""
    if not wanted:
        return None, f"not asked for, or the recording exceeds {BOOK_UP_TO_BYTES >> 20} MB; --book replays it"
    if found.bad:
        return None, f"{found.bad:,} lines are not in the line form; no book can be relied on"
    try:
        return replay(recording, found), ""
    except MalformedDataError as error:
        return None, error.what


def _unread(found: Scan) -> str:
    """Why not all of the recording could be read; empty where it was."""
    bad = f"{found.bad:,} lines could not be read" if found.bad else ""
    return ", ".join(filter(None, (bad, "the file is not whole" if found.findings else "")))


def _never_came(checks: list[Check]) -> str:
    """How many planned streams never came; empty where all did."""
    wrong: dict[str, str] = next(
        (check.figures.get("wrong", {}) for check in checks if check.name == "streams"), {}
    )
    never = [name for name, why in wrong.items() if why == NEVER_CAME]
    return f"{len(never):,} planned streams never came" if never else ""


def _doubted(check: Check, unread: str, never_came: str) -> Check:
    """Of evidence that is not whole nothing passes but what more of it could not change."""
    partial = ", ".join(filter(None, (unread, "" if check.name == "ledger" else never_came)))
    if not partial or check.verdict is not Verdict.PASS or check.name in _WHATEVER_IS_LACKING:
        return check
    return replace(check, verdict=Verdict.SKIPPED, reason=f"{partial}; of the rest: {check.reason}")


def _advised(check: Check, thresholds: Thresholds) -> Check:
    return replace(check, decides=False) if check.name in thresholds.advisory else check


__all__ = ["BOOK_CHECKS", "BOOK_UP_TO_BYTES", "locate", "statistics", "validate"]
