"""Checks that only the folder of a session allows: plan and ledger against data; of a finished one its files, its disk and its account."""

from __future__ import annotations

from itertools import chain

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.errors import CaptureError
from capture_pipeline.golden.scan.scan import Scan
from capture_pipeline.golden.validation.account import accounting_check, disk_check, ids_of_gap, named
from capture_pipeline.golden.validation.files import checksums_check
from capture_pipeline.golden.validation.report import Check, Thresholds, check_result, skipped_check
from capture_pipeline.golden.validation.size import Planned
from capture_pipeline.lake.files import read_model
from capture_pipeline.recorder.storage.tail_losses import is_outside
from capture_pipeline.sessions.gap_ledger import ends_with_whole_line, read_gaps_strictly
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Gap, SessionMetadata, SessionPlan

NEVER_CAME = "never came"
"""What `streams` says of a planned stream without a message."""
_MOST_NAMED = 5
_AT_END = "behind the last message of a stream"
_AT_START = "before the first message of a stream"
_BARE = "a bare file, not the folder of a session"
_UNFINISHED = "the session is not finished: it has no metadata.json"
_NOT_STREAMED = frozenset({StreamKind.SNAPSHOT, StreamKind.SHUTDOWN})
"""These come when they are asked for or when the exchange ends a connection; they may be silent for hours."""


def session_checks(found: Scan, folder: SessionFolder | None) -> list[Check]:
    """Ledger, checksums, disk and accounting; skipped for a bare file."""
    if folder is None:
        return [skipped_check(name, _BARE) for name in ("ledger", "checksums", "disk", "accounting")]
    return [_ledger(found, folder), *_finished(found, folder)]


def planned_of(found: Scan, folder: SessionFolder | None) -> Planned | None:
    """How the times of a session's recording compare with its plan; None for a bare file, which has none."""
    if folder is None:
        return None
    try:
        plan = read_model(folder.plan, SessionPlan)
    except CaptureError as error:
        return Planned(trouble=str(error), is_damaged=True)
    if plan is None:
        return Planned(trouble="the session has no plan")
    if found.first_ns < 0:
        return Planned(early_s=plan.duration_s)
    return Planned(late_s=plan.late_s(found.first_ns), early_s=(plan.end_ns - found.last_ns) / 1e9)


def stream_check(found: Scan, folder: SessionFolder | None, thresholds: Thresholds) -> Check:
    """Whether every planned stream came, soon after the recording's start and until shortly before its end."""
    if folder is None:
        return skipped_check("streams", _BARE)
    try:
        plan = read_model(folder.plan, SessionPlan)
    except CaptureError as error:
        return check_result("streams", good=False, reason=str(error))
    if plan is None:
        return skipped_check("streams", "the session has no plan")
    if not plan.streams:
        return skipped_check("streams", "the plan of the session names no stream")
    wrong = {name: why for name in plan.streams if (why := _silent(found, name, thresholds.stream_silence_s))}
    named = ", ".join(f"{name} {why}" for name, why in list(wrong.items())[:_MOST_NAMED])
    more = f" and {len(wrong) - _MOST_NAMED:,} more" if len(wrong) > _MOST_NAMED else ""
    reason = (
        f"{len(wrong)} of {len(plan.streams)}: {named}{more}"
        if wrong
        else f"{len(plan.streams)} planned streams from start to end"
    )
    return check_result("streams", not wrong, reason, planned=len(plan.streams), wrong=wrong)


def _silent(found: Scan, name: str, most_s: float) -> str:
    """What is wrong with a planned stream; empty if nothing."""
    stream = found.streams.get(name)
    if stream is None or stream.first_ns < 0:
        return NEVER_CAME
    late, early = (stream.first_ns - found.first_ns) / 1e9, (found.last_ns - stream.last_ns) / 1e9
    if stream.kind in _NOT_STREAMED or max(late, early) <= most_s:
        return ""
    told = (
        f"began {late:,.0f} s after the start" if late > most_s else "",
        f"ended {early:,.0f} s before the end" if early > most_s else "",
    )
    return f"{' and '.join(filter(None, told))}, of at most {most_s:,.0f} s"


def _ledger(found: Scan, folder: SessionFolder) -> Check:
    try:
        gaps = read_gaps_strictly(folder.gaps)
    except CaptureError as error:
        return check_result("ledger", good=False, reason=str(error))
    listed = {ids_of_gap(gap) for gap in gaps}
    outside = {ids_of_gap(gap) for gap in gaps if gap.is_outside and _is_beyond(gap, found)}
    data = {
        (gap.stream, gap.last_good_id, gap.first_good_id)
        for gap in chain.from_iterable(stream.breaks for stream in found.streams.values())
    }
    unlisted, unseen = sorted(data - listed), sorted(listed - data - outside)
    wrong = [
        *filter(
            None,
            (
                named("in the data and not in the ledger", unlisted),
                named("in the ledger and not in the data", unseen),
            ),
        ),
        *_broken(found, folder),
    ]
    if wrong:
        return check_result("ledger", good=False, reason="; ".join(wrong), unlisted=unlisted, unseen=unseen)
    if not ends_with_whole_line(folder.gaps):
        return skipped_check(
            "ledger", "the session is not finished, and its ledger is not there yet or ends in half a line"
        )
    same = f"{len(listed - outside)} gaps in the ledger and the same in the data"
    ends = sorted(ids_of_gap(gap) for gap in gaps if gap.at_end and ids_of_gap(gap) in outside)
    starts = sorted(ids_of_gap(gap) for gap in gaps if gap.at_start and ids_of_gap(gap) in outside)
    told = [text for what, lost in ((_AT_END, ends), (_AT_START, starts)) if (text := named(what, lost))]
    return check_result(
        "ledger",
        good=True,
        reason=", and ".join([same, *told]),
        gaps=len(listed),
        lost_at_end=ends,
        lost_at_start=starts,
    )


def _broken(found: Scan, folder: SessionFolder) -> list[str]:
    """What keeps data and ledger from being compared whole: the ledger of a finished session is a whole file."""
    wrong = []
    if folder.metadata.exists() and not folder.gaps.exists():
        wrong.append("gaps.jsonl is missing")
    elif folder.metadata.exists() and not ends_with_whole_line(folder.gaps):
        wrong.append("gaps.jsonl ends in half a line")
    uncounted = [stream.name for stream in found.streams.values() if stream.track.gaps > len(stream.breaks)]
    return wrong + (
        [f"too many gaps to be compared in {', '.join(uncounted[:_MOST_NAMED])}"] if uncounted else []
    )


def _is_beyond(gap: Gap, found: Scan) -> bool:
    """Whether the data, too, end before what the ledger says was lost at the end of a stream."""
    stream = found.streams.get(gap.stream)
    return stream is None or is_outside(gap, stream.track.first, stream.track.last)


def _finished(found: Scan, folder: SessionFolder) -> list[Check]:
    names = ("checksums", "disk", "accounting")
    try:
        metadata = read_model(folder.metadata, SessionMetadata)
    except CaptureError as error:
        return [check_result(name, good=False, reason=str(error)) for name in names]
    if metadata is None:
        return [skipped_check(name, _UNFINISHED) for name in names]
    return [
        checksums_check(found, folder, metadata),
        disk_check(metadata, folder),
        accounting_check(found, metadata),
    ]
