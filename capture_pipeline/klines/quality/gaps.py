"""Conversion of missing ranges to rows of the gap ledger.

Each missing bar gets exactly one cause. The causes are tried in a fixed order, and the ranges of each cause
are removed from the remaining ones, so that no bar is counted twice. The module does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import DAY_US, MINUTE_US, TimeRange
from capture_pipeline.calendars.outages import Kind, Outage
from capture_pipeline.klines.quality.absence import count_attempts, find_absent, find_nonexistent
from capture_pipeline.klines.quality.ranges import (
    Ranges,
    find_touched_steps,
    find_whole_steps,
    intersect,
    subtract,
    union,
)
from capture_pipeline.lake.manifests import ArchiveRecord, RestPage
from capture_pipeline.settings.models import Gaps
from capture_pipeline.tables.klines.gaps import EXPLAINED, Cause, GapStatus

_DAYS_UNTIL_PUBLISHED = 3
_EVER = 1 << 62
_ALWAYS = TimeRange(-_EVER, _EVER)
_QUARANTINED = {Trust.MISMATCH, Trust.MALFORMED}
_SEEN_ONCE = "the exchange has no kline, seen once"
_NOT_REQUESTED = (
    "it is not requested from REST: neither REST nor a usable archive file shows that the symbol traded then"
)
_SUSPECTED = (
    "the exchange has no kline for a day or longer, verified; "
    "list it with its symbols in the outage calendar if it was suspended"
)


@dataclass(frozen=True)
class Evidence:
    """Data that explain the gaps of one partition.

    Attributes:
        step_us: Interval of the klines.
        trading: Range of the month in which the symbol traded.
        now_us: The present time.
        outages: Listed outages and suspensions of this symbol.
        pages: REST answers.
        archives: Archive files, usable or not.
        settings: Thresholds.
        off_grid: Times of the exchange's klines that open off the grid.
        off_grid_listed: Times for which the calendar of irregular rows lists klines off the grid.
        shift: Shift of the klines off the grid, as text.
        requested_now: Ranges that a top-up would request now.
        requested_later: Ranges that a top-up would request `sighting_minutes` from now.
    """

    step_us: int
    trading: TimeRange
    now_us: int
    outages: list[Outage]
    pages: list[RestPage]
    archives: list[ArchiveRecord]
    settings: Gaps
    off_grid: Ranges = field(default_factory=list)
    off_grid_listed: Ranges = field(default_factory=list)
    shift: str = ""
    requested_now: Ranges = field(default_factory=lambda: [_ALWAYS])
    requested_later: Ranges = field(default_factory=lambda: [_ALWAYS])


@dataclass(frozen=True)
class Gap:
    """One row of the gap ledger.

    Attributes:
        start_us: First missing open time.
        end_us: End, exclusive.
        cause: Cause of the gap.
        detail: Description of the cause and its remedy.
        verified_nonexistent: The absence at the exchange is proven by several sightings.
        attempts: Number of REST answers that show no kline of the gap.
        filled_by: Source of the bars that filled the gap; None while the gap is open.
    """

    start_us: int
    end_us: int
    cause: Cause
    detail: str
    verified_nonexistent: bool = False
    attempts: int = 0
    filled_by: str | None = None

    def row(self, step_us: int) -> dict[str, object]:
        """Convert the gap to a row of `GAPS`."""
        return {
            "start_us": self.start_us,
            "end_us": self.end_us,
            "bars": (self.end_us - self.start_us) // step_us,
            "status": str(GapStatus.FILLED if self.filled_by else GapStatus.OPEN),
            "cause": str(self.cause),
            "explained": self.cause in EXPLAINED or self.filled_by is not None,
            "verified_nonexistent": self.verified_nonexistent,
            "attempts": self.attempts,
            "filled_by": self.filled_by,
            "detail": self.detail,
        }


class KnownGap(NamedTuple):
    """Range that was missing earlier, and its cause."""

    cause: Cause
    span: TimeRange


class _PossibleCause(NamedTuple):
    """Cause that applies to bars in `ranges` that no earlier cause explains."""

    cause: Cause
    ranges: Ranges
    detail: str


def explain_gaps(missing: Ranges, evidence: Evidence) -> list[Gap]:
    """Assign a cause to each missing bar and join neighbouring bars of the same cause to gaps.

    A listed outage or suspension explains the bars that lie completely inside it. It explains bars at its
    edge only if their absence at the exchange is proven. Klines off the grid explain the missing bars at
    their times if REST has no bar there, or if the calendar of irregular rows lists the time. A shifted file
    alone does not show that REST lacks the bars.

    Args:
        missing: Missing ranges on the grid, up to the present.
        evidence: Data about the partition.

    Returns:
        Gaps in order of time. Their union is `missing`.
    """
    step = evidence.step_us
    sighted = find_whole_steps(union(*(find_absent(page) for page in evidence.pages)), step)
    verified = find_whole_steps(find_nonexistent(evidence.pages, evidence.settings), step)
    suspensions = [outage for outage in evidence.outages if outage.kind is Kind.SUSPENSION]
    halts = [outage for outage in evidence.outages if outage.kind is Kind.OUTAGE]
    edge = evidence.settings.outage_edge_minutes * MINUTE_US
    recent = find_touched_steps([(evidence.now_us - _DAYS_UNTIL_PUBLISHED * DAY_US, evidence.now_us)], step)
    unused = [record for record in evidence.archives if not record.usable]
    bad = [record.bounds for record in unused if record.trust in _QUARANTINED]
    unverified = [record.bounds for record in unused if record.unverified]
    published = [record.bounds for record in evidence.archives if record.usable]
    off_grid = find_touched_steps(evidence.off_grid, step)
    whole: Ranges = [_ALWAYS]
    causes = [
        _PossibleCause(
            Cause.BEFORE_LISTING,
            find_whole_steps([(-_EVER, evidence.trading.start_us)], step),
            "the symbol did not trade yet",
        ),
        _PossibleCause(
            Cause.AFTER_DELISTING,
            find_whole_steps([(evidence.trading.end_us, _EVER)], step),
            "the symbol no longer traded",
        ),
        *_split_by_entry(Cause.SUSPENDED, suspensions, step),
        *_split_by_entry(Cause.EXCHANGE_OUTAGE, halts, step),
        _PossibleCause(
            Cause.OFF_GRID,
            intersect(off_grid, union(sighted, find_touched_steps(evidence.off_grid_listed, step))),
            (
                f"the exchange's klines of this time are shifted by {evidence.shift}; "
                "they are in the table bar_exclusions"
            ),
        ),
        _PossibleCause(
            Cause.EXCHANGE_OUTAGE,
            intersect(verified, _find_edges(halts, edge, step)),
            "edge of a listed outage, verified as non-existent",
        ),
        _PossibleCause(
            Cause.SUSPENDED,
            intersect(verified, _find_edges(suspensions, edge, step)),
            "edge of a listed suspension, verified as non-existent",
        ),
        _PossibleCause(Cause.UNKNOWN, _select_long(verified, missing), _SUSPECTED),
        _PossibleCause(
            Cause.UNKNOWN,
            verified,
            "the exchange has no kline, verified; list it in the outage calendar once its cause is known",
        ),
        _PossibleCause(
            Cause.UNKNOWN,
            intersect(sighted, evidence.requested_later),
            f"{_SEEN_ONCE}; a top-up {evidence.settings.sighting_minutes} min later requests it again",
        ),
        _PossibleCause(Cause.UNKNOWN, sighted, f"{_SEEN_ONCE}; {_NOT_REQUESTED}"),
        *_split_ours(find_touched_steps(bad, step), "its archive file is quarantined", evidence),
        *_split_ours(
            find_touched_steps(unverified, step), "its archive file is unverified and not used", evidence
        ),
        *_split_ours(
            off_grid,
            "its archive file has klines shifted off the grid instead, see the table bar_exclusions",
            evidence,
        ),
        *_split_ours(find_touched_steps(published, step), "its archive file does not contain it", evidence),
        _PossibleCause(
            Cause.NOT_YET_PUBLISHED, recent, "no archive file contains it yet; not requested from REST"
        ),
        *_split_ours(whole, "it was never requested", evidence),
    ]
    gaps: list[Gap] = []
    remaining = union(missing)
    for cause, ranges, detail in causes:
        for start, end in intersect(remaining, ranges):
            proven = subtract([(start, end)], verified) == []
            gaps.append(Gap(start, end, cause, detail, proven, count_attempts(evidence.pages, start, end)))
        remaining = subtract(remaining, ranges)
    return sorted(gaps, key=lambda gap: gap.start_us)


def _split_ours(ranges: Ranges, what: str, evidence: Evidence) -> list[_PossibleCause]:
    """Split ranges that this pipeline can fill by their remedy: with and without a request by a top-up."""
    return [
        _PossibleCause(
            Cause.OURS,
            intersect(ranges, evidence.requested_now),
            f"{what}; run a top-up of this month to request it from REST",
        ),
        _PossibleCause(Cause.OURS, ranges, f"{what}; {_NOT_REQUESTED}"),
    ]


def find_filled_gaps(known: Iterable[KnownGap], sources: dict[str, Ranges], evidence: Evidence) -> list[Gap]:
    """Find the gaps that were filled: ranges that were missing earlier and are present now.

    Args:
        known: Ranges that an archive file lacks or that the previous ledger contains. If ranges overlap, the
            first cause is used.
        sources: Ranges of the present bars, by source.
        evidence: Data about the partition.
    """
    gaps: list[Gap] = []
    done: Ranges = []
    for cause, span in known:
        candles = find_touched_steps([span], evidence.step_us)
        new = subtract(candles, done)
        done = union(done, candles)
        detail = (
            "an archive file did not contain it; another source did"
            if cause is Cause.ARCHIVE_OMISSION
            else "downloaded later"
        )
        for source, ranges in sources.items():
            gaps += [
                Gap(
                    start,
                    end,
                    cause,
                    detail,
                    attempts=count_attempts(evidence.pages, start, end),
                    filled_by=source,
                )
                for start, end in intersect(new, ranges)
            ]
    return sorted(gaps, key=lambda gap: gap.start_us)


def _find_edges(outages: list[Outage], edge_us: int, step_us: int) -> Ranges:
    """Return the bars that overlap an outage or are at most `edge_us` away from it."""
    return find_touched_steps(
        [(outage.start_us - edge_us, outage.end_us + edge_us) for outage in outages], step_us
    )


def _select_long(verified: Ranges, missing: Ranges) -> Ranges:
    """Select proven gaps of a day or longer; an outage of that length should be in the calendar."""
    return [each for each in intersect(verified, union(missing)) if each.length_us >= DAY_US]


def _split_by_entry(cause: Cause, outages: list[Outage], step_us: int) -> list[_PossibleCause]:
    """Return the bars that each outage explains.

    A bar must be completely covered by the union of all outages.
    """
    covered = find_whole_steps([(outage.start_us, outage.end_us) for outage in outages], step_us)
    return [
        _PossibleCause(
            cause,
            intersect(find_touched_steps([(outage.start_us, outage.end_us)], step_us), covered),
            outage.reason,
        )
        for outage in outages
    ]
