"""Evaluation of origin times: recommended clock for the order of events, with the reasons, and evidence."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from capture_pipeline.checks.feasibility import ORIGIN_TIME, SKEW
from capture_pipeline.checks.model import Verdict
from capture_pipeline.feasibility.event_time.measurement import UNITS, StreamTimes
from capture_pipeline.feasibility.evidence import Evidence, Reading, new_evidence

ASSET = "origin_time_report"


class Clock(StrEnum):
    """Clock that orders events."""

    ORIGIN = "origin time"
    RECEIPT = "receipt time"


class OriginReport(BaseModel):
    """Report on all streams of one session, or of some files.

    Attributes:
        subject: Name of the session or files.
        streams: Measurements of the streams.
        clock: Recommended clock.
        reasons: Sentences with the reasons for the recommendation, and notes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    subject: str
    streams: list[StreamTimes]
    clock: Clock
    reasons: list[str]

    @property
    def counted_streams(self) -> list[StreamTimes]:
        """Streams with messages that count in the criteria."""
        return [stream for stream in self.streams if stream.judged and stream.messages]


def build_report(subject: str, streams: Sequence[StreamTimes]) -> OriginReport:
    """Build the report on measured streams."""
    counted = [stream for stream in streams if stream.judged and stream.messages]
    against = [reason for stream in counted for reason in _find_objections(stream)]
    reasons = (
        against
        or [f"{stream.name}: {_describe_accuracy(stream)}" for stream in counted]
        or ["there is no message to measure"]
    )
    clock = Clock.RECEIPT if against or not counted else Clock.ORIGIN
    notes = [note for stream in streams for note in _list_notes(stream, clock)]
    return OriginReport(subject=subject, streams=list(streams), clock=clock, reasons=reasons + notes)


def build_readings(reports: Sequence[OriginReport]) -> list[Reading]:
    """Build the readings of the two criteria; the worst stream decides."""
    counted = [_Stream(report.subject, stream) for report in reports for stream in report.counted_streams]
    missing = [_Measured(each.times.unusable_percent or 0.0, each) for each in counted]
    skewed = [_Measured(each.times.p95_ms, each) for each in counted if each.times.p95_ms is not None]
    return [_build_missing_reading(missing), _build_skew_reading(skewed, len(counted))]


class _Stream(NamedTuple):
    subject: str
    times: StreamTimes


class _Measured(NamedTuple):
    """A figure of a stream that a criterion limits."""

    value: float
    stream: _Stream


def _build_missing_reading(found: list[_Measured]) -> Reading:
    if not found:
        return Reading(criterion=ORIGIN_TIME.name, measured=None, note="no stream has a message")
    share, (subject, worst) = max(found, key=lambda each: each.value)
    missing = worst.null + worst.zero
    note = (
        f"worst: {subject}, {worst.name}: {missing:,} missing, {worst.invalid:,} invalid, "
        f"{worst.receipt_filled:,} filled in"
    )
    return Reading(
        criterion=ORIGIN_TIME.name, measured=share, note=f"{note} from the receipt, of {worst.messages:,}"
    )


def _build_skew_reading(found: list[_Measured], counted_streams: int) -> Reading:
    if not found or len(found) < counted_streams:
        note = (
            "a stream has no origin time of its own to measure"
            if counted_streams
            else "no stream has a message"
        )
        return Reading(criterion=SKEW.name, measured=None, note=note)
    skew, (subject, worst) = max(found, key=lambda each: each.value)
    note = f"worst: {subject}, {worst.name}; offset of {worst.offset_ms:,.3f} ms subtracted"
    return Reading(criterion=SKEW.name, measured=skew, note=note)


def build_evidence(reports: Sequence[OriginReport], inputs: dict[str, str]) -> Evidence:
    """Build the evidence.

    Args:
        reports: One report for each symbol.
        inputs: SHA-256 of the inputs, by file.
    """
    figures: dict[str, float] = {}
    for report in reports:
        for stream in report.streams:
            prefix = f"{report.subject.rpartition(' ')[2]} {stream.name}"
            shown = {
                "messages": stream.messages,
                "unusable, %": stream.unusable_percent,
                "regressions": stream.regressions,
                "offset, ms": stream.offset_ms,
                "skew p95 without offset, ms": stream.p95_ms,
            }
            figures |= {
                f"{prefix}: {name}": float(value) for name, value in shown.items() if value is not None
            }
    return new_evidence(
        ASSET,
        build_readings(reports),
        figures,
        inputs,
        {"reports": [report.model_dump() for report in reports]},
    )


def _find_objections(stream: StreamTimes) -> list[str]:
    """List the reasons why the origin time of a stream cannot be the clock."""
    share = stream.unusable_percent
    if ORIGIN_TIME.verdict(share) is not Verdict.PASS:
        problem = "of the origin times are missing, invalid or filled in from the receipt"
        return [f"{stream.name}: {share:.2f} % {problem}"]
    if stream.resolution is not None and UNITS[stream.resolution] > SKEW.threshold.limit * 1e6:
        return [
            (
                f"{stream.name}: origin times are rounded to {stream.resolution}, more than "
                f"{SKEW.threshold.limit:g} ms"
            )
        ]
    if SKEW.verdict(stream.p95_ms) is not Verdict.PASS:
        what = (
            f"differ from the receipt by {stream.p95_ms:,.1f} ms"
            if stream.p95_ms is not None
            else "cannot be compared with receipts"
        )
        return [
            f"{stream.name}: origin times {what} at the 95th percentile, without the offset of the clocks"
        ]
    return []


def _describe_accuracy(stream: StreamTimes) -> str:
    usable = 100 - (stream.unusable_percent or 0)
    return f"{usable:.2f} % usable, within {stream.p95_ms:,.3f} ms of the receipt at the 95th percentile"


def _list_notes(stream: StreamTimes, clock: Clock) -> list[str]:
    notes = []
    if stream.messages and not stream.judged:
        notes.append(f"{stream.name}: the exchange sends no origin time; order them by their update id")
    if stream.offset_ms is not None and abs(stream.offset_ms) >= SKEW.threshold.limit:
        which = (
            "behind that of the exchange, or more"
            if stream.offset_ms < 0
            else "ahead of that of the exchange, or messages take that long"
        )
        clocks = f"the receiving clock is {abs(stream.offset_ms):,.1f} ms {which}"
        remedy = f"add {-stream.offset_ms:,.1f} ms to receipts before you compare them with origin times"
        notes.append(f"{stream.name}: {clocks}; {remedy}")
    if stream.drift_ms is not None and stream.drift_ms >= SKEW.threshold.limit:
        notes.append(
            f"{stream.name}: the offset changed by {stream.drift_ms:,.1f} ms; subtract it period by period"
        )
    if stream.regressions and clock is Clock.ORIGIN:
        remedy = "keep the order of receipt among them"
        notes.append(
            f"{stream.name}: {stream.regressions:,} origin times are earlier than the previous one; {remedy}"
        )
    return notes
