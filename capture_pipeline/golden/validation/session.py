"""Checks that need the folder of a session: plan, gap ledger, files, disk and account."""

from __future__ import annotations

from itertools import chain

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.checks import recordings as checks
from capture_pipeline.checks.model import CheckResult
from capture_pipeline.checks.recordings import Thresholds
from capture_pipeline.errors import CaptureError
from capture_pipeline.golden.scan.scanner import Scan
from capture_pipeline.golden.validation.account import (
    GapIds,
    check_accounting,
    check_disk,
    format_gaps,
)
from capture_pipeline.golden.validation.files import check_checksums
from capture_pipeline.golden.validation.size import PlanComparison
from capture_pipeline.lake.files import read_model
from capture_pipeline.sessions.gap_ledger import ends_with_whole_line, read_gaps_strictly
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Gap, SessionMetadata, SessionPlan

_MAX_EXAMPLES = 5
_AT_END = "after the last message of a stream"
_AT_START = "before the first message of a stream"
_BARE = "a bare file, not the folder of a session"
_UNFINISHED = "the session is not finished: it has no metadata.json"
_NOT_STREAMED = frozenset({StreamKind.SNAPSHOT, StreamKind.SHUTDOWN})
"""Snapshots are requested, and shutdown events announce the end of a connection: both may be rare."""


def check_session(found: Scan, folder: SessionFolder | None) -> list[CheckResult]:
    """Run the checks `ledger`, `checksums`, `disk` and `accounting`; skipped without a session."""
    if folder is None:
        return [spec.skip(_BARE) for spec in (checks.LEDGER, *checks.FILE_CHECKS)]
    return [_check_ledger(found, folder), *_check_finished(found, folder)]


def compare_with_plan(found: Scan, folder: SessionFolder | None) -> PlanComparison | None:
    """Compare the times of a recording with the plan of its session; None if there is no session."""
    if folder is None:
        return None
    try:
        plan = read_model(folder.plan, SessionPlan)
    except CaptureError as error:
        return PlanComparison(problem=str(error), is_damaged=True)
    if plan is None:
        return PlanComparison(problem="the session has no plan")
    if found.first_ns < 0:
        return PlanComparison(early_s=plan.duration_s, streams=plan.streams)
    return PlanComparison(
        late_s=plan.late_s(found.first_ns),
        early_s=(plan.end_ns - found.last_ns) / 1e9,
        streams=plan.streams,
    )


def check_streams(found: Scan, planned: PlanComparison | None, thresholds: Thresholds) -> CheckResult:
    """Check that every planned stream has messages, from the start of the recording to its end."""
    if planned is None:
        return checks.STREAMS.skip(_BARE)
    if planned.is_damaged:
        return checks.STREAMS.fail(planned.problem)
    if planned.problem:
        return checks.STREAMS.skip(planned.problem)
    if not planned.streams:
        return checks.STREAMS.skip("the plan of the session names no stream")
    wrong = {
        name: why
        for name in planned.streams
        if (why := _describe_silence(found, name, thresholds.stream_silence_s))
    }
    examples = ", ".join(f"{name} {why}" for name, why in list(wrong.items())[:_MAX_EXAMPLES])
    more = f" and {len(wrong) - _MAX_EXAMPLES:,} more" if len(wrong) > _MAX_EXAMPLES else ""
    reason = (
        f"{len(wrong)} of {len(planned.streams)}: {examples}{more}"
        if wrong
        else f"{len(planned.streams)} planned streams from start to end"
    )
    return checks.STREAMS.pass_if(not wrong, reason, planned=len(planned.streams), wrong=wrong)


def is_missing(found: Scan, name: str) -> bool:
    """Report whether the recording has no message of a stream."""
    stream = found.streams.get(name)
    return stream is None or stream.first_ns < 0


def _describe_silence(found: Scan, name: str, most_s: float) -> str:
    """Describe the silence of a planned stream; empty if it is within the limit."""
    stream = found.streams.get(name)
    if stream is None or is_missing(found, name):
        return "never sent a message"
    late, early = (stream.first_ns - found.first_ns) / 1e9, (found.last_ns - stream.last_ns) / 1e9
    if stream.kind in _NOT_STREAMED or max(late, early) <= most_s:
        return ""
    parts = (
        f"began {late:,.0f} s after the start" if late > most_s else "",
        f"ended {early:,.0f} s before the end" if early > most_s else "",
    )
    return f"{' and '.join(filter(None, parts))}; at most {most_s:,.0f} s are allowed"


def _check_ledger(found: Scan, folder: SessionFolder) -> CheckResult:
    try:
        gaps = read_gaps_strictly(folder.gaps)
    except CaptureError as error:
        return checks.LEDGER.fail(str(error))
    listed = {GapIds.of(gap) for gap in gaps}
    outside = {GapIds.of(gap) for gap in gaps if gap.is_outside and _is_beyond(gap, found)}
    data = {GapIds.of(gap) for gap in chain.from_iterable(stream.breaks for stream in found.streams.values())}
    unlisted, unseen = sorted(data - listed), sorted(listed - data - outside)
    wrong = [
        *filter(
            None,
            (
                format_gaps("in the data and not in the ledger", unlisted),
                format_gaps("in the ledger and not in the data", unseen),
            ),
        ),
        *_list_incomplete_evidence(found, folder),
    ]
    if wrong:
        return checks.LEDGER.fail("; ".join(wrong), unlisted=unlisted, unseen=unseen)
    if not ends_with_whole_line(folder.gaps):
        return checks.LEDGER.skip(
            "the session is not finished, and its ledger does not exist yet or ends in half a line"
        )
    same = f"{len(listed - outside)} gaps in the ledger and the same in the data"
    ends = sorted(GapIds.of(gap) for gap in gaps if gap.at_end and GapIds.of(gap) in outside)
    starts = sorted(GapIds.of(gap) for gap in gaps if gap.at_start and GapIds.of(gap) in outside)
    lost = [text for what, ids in ((_AT_END, ends), (_AT_START, starts)) if (text := format_gaps(what, ids))]
    return checks.LEDGER.pass_if(
        is_good=True,
        reason=", and ".join([same, *lost]),
        gaps=len(listed),
        lost_at_end=ends,
        lost_at_start=starts,
    )


def _list_incomplete_evidence(found: Scan, folder: SessionFolder) -> list[str]:
    """List the reasons why ledger and data cannot be compared completely."""
    wrong = []
    if folder.metadata.exists() and not folder.gaps.exists():
        wrong.append("gaps.jsonl is missing")
    elif folder.metadata.exists() and not ends_with_whole_line(folder.gaps):
        wrong.append("gaps.jsonl ends in half a line")
    uncounted = [stream.name for stream in found.streams.values() if stream.track.gaps > len(stream.breaks)]
    return wrong + (
        [f"too many gaps to be compared in {', '.join(uncounted[:_MAX_EXAMPLES])}"] if uncounted else []
    )


def _is_beyond(gap: Gap, found: Scan) -> bool:
    """Return True if a gap of the ledger is before the first or after the last id in the data."""
    stream = found.streams.get(gap.stream)
    return stream is None or gap.is_beyond(stream.track.first, stream.track.last)


def _check_finished(found: Scan, folder: SessionFolder) -> list[CheckResult]:
    try:
        metadata = read_model(folder.metadata, SessionMetadata)
    except CaptureError as error:
        return [spec.fail(str(error)) for spec in checks.FILE_CHECKS]
    if metadata is None:
        return [spec.skip(_UNFINISHED) for spec in checks.FILE_CHECKS]
    return [
        check_checksums(found, folder, metadata),
        check_disk(metadata, folder),
        check_accounting(found, metadata),
    ]
