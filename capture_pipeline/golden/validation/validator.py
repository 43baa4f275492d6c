"""Validation of a recording or of the folder of a session with all checks of a golden sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from capture_pipeline.checks import recordings as checks
from capture_pipeline.checks.model import CheckResult, Verdict
from capture_pipeline.checks.recordings import Thresholds
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.scan.parallel import scan
from capture_pipeline.golden.scan.scanner import Scan
from capture_pipeline.golden.validation.book import check_books, report_missing_book
from capture_pipeline.golden.validation.book_replay import RecordingReplay, replay_books
from capture_pipeline.golden.validation.ids import check_ids
from capture_pipeline.golden.validation.report import Report
from capture_pipeline.golden.validation.session import (
    check_session,
    check_streams,
    compare_with_plan,
    is_missing,
)
from capture_pipeline.golden.validation.size import (
    PlanComparison,
    check_form,
    check_size,
    sum_gap_seconds,
)
from capture_pipeline.sessions.continuity import compute_gap_ratios
from capture_pipeline.sessions.layout import SessionFolder

BOOK_UP_TO_BYTES = 64 << 20
"""The books of recordings up to this size are replayed by default."""
_INDEPENDENT_OF_MISSING_DATA = frozenset(
    {checks.FILE, checks.MESSAGES, checks.DURATION, checks.CHECKSUMS, checks.DISK, checks.ACCOUNTING}
)
"""Checks whose PASS stays correct if more messages existed: checks of files, and of minimum values."""


class Located(NamedTuple):
    """A recording, and the session to which it belongs."""

    recording: Path
    folder: SessionFolder | None = None


class _Replay(NamedTuple):
    """Replayed books, or the reason why there are none."""

    books: RecordingReplay | None
    problem: str = ""


def validate(path: Path, thresholds: Thresholds = checks.DEFAULTS, *, book: bool | None = None) -> Report:
    """Run all checks on a recording.

    Args:
        path: A recording, or the folder of a session. Ledger and checksums are only checked for a session.
        thresholds: Limits of the checks.
        book: True to replay the order books, False to skip them. None replays recordings up to
            `BOOK_UP_TO_BYTES`.

    Returns:
        Results of all checks, and statistics.

    Raises:
        MalformedDataError: There is no recording, or the file cannot be read.
    """
    recording, folder = locate(path)
    found = scan(recording)
    wanted = found.size <= BOOK_UP_TO_BYTES if book is None else book
    replayed, trouble = _replay_books(recording, found, wanted=wanted)
    ledger, *of_files = check_session(found, folder)
    planned = compare_with_plan(found, folder)
    books = (
        check_books(replayed, thresholds)
        if replayed
        else report_missing_book(trouble, broken=wanted and not found.bad_count)
    )
    results = [
        *check_form(found),
        *check_ids(found, thresholds, listed=ledger.verdict is Verdict.PASS),
        check_streams(found, planned, thresholds),
        *check_size(found, thresholds, planned),
        ledger,
        *of_files,
        *books,
    ]
    unread, missing = _describe_unread(found), _describe_missing_streams(found, planned)
    judged = [_skip_if_incomplete(result, unread, missing) for result in results]
    return Report(recording, judged, statistics(found, replayed))


def locate(path: Path) -> Located:
    """Find the recording at or below `path`, and the session it belongs to.

    Raises:
        MalformedDataError: The folder contains no recording, or a recording that is still in several parts.
    """
    if not path.is_dir():
        return Located(path)
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
            return Located(candidate, folder)
    raise MalformedDataError(
        "contains no recording", where=str(path), remedy="name a recording, or the folder of one session"
    )


def statistics(found: Scan, replayed: RecordingReplay | None) -> dict[str, Any]:
    """Compute the statistics of the report and of `metadata.json`."""
    streams = [stream for _, stream in sorted(found.streams.items())]
    ratios = compute_gap_ratios([stream.track for stream in streams if stream.track.first >= 0])
    down = sum_gap_seconds(found)
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


def _replay_books(recording: Path, found: Scan, *, wanted: bool) -> _Replay:
    """Replay the books, if that is requested and possible."""
    if not wanted:
        limit = f"the recording exceeds {BOOK_UP_TO_BYTES >> 20} MB; --book replays it"
        return _Replay(None, f"not requested, or {limit}")
    if found.bad_count:
        lines = f"{found.bad_count:,} lines are not in the line form"
        return _Replay(None, f"{lines}; a book would not be reliable")
    try:
        return _Replay(replay_books(recording, found))
    except MalformedDataError as error:
        return _Replay(None, error.what)


def _describe_unread(found: Scan) -> str:
    """Describe parts of the recording that could not be read; empty if there are none."""
    bad = f"{found.bad_count:,} lines could not be read" if found.bad_count else ""
    return ", ".join(filter(None, (bad, "the file is not complete" if found.findings else "")))


def _describe_missing_streams(found: Scan, planned: PlanComparison | None) -> str:
    """Describe planned streams without a message; empty if there are none."""
    count = sum(is_missing(found, name) for name in planned.streams) if planned else 0
    return f"{count:,} planned streams sent no message" if count else ""


def _skip_if_incomplete(result: CheckResult, unread: str, missing: str) -> CheckResult:
    """Skip a passed check whose result could change with the missing data."""
    partial = ", ".join(filter(None, (unread, "" if result.spec == checks.LEDGER else missing)))
    if not partial or result.verdict is not Verdict.PASS or result.spec in _INDEPENDENT_OF_MISSING_DATA:
        return result
    return replace(result, verdict=Verdict.SKIPPED, reason=f"{partial}; of the rest: {result.reason}")
