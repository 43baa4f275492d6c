"""Missing ranges to ledger rows: each gets exactly one cause, taken away in a fixed order so that none is counted twice. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import DAY_US, MINUTE_US
from capture_pipeline.calendars.outages import Kind, Outage
from capture_pipeline.klines.quality.ranges import (
    Range,
    Ranges,
    intersect,
    subtract,
    touched_steps,
    union,
    whole_steps,
)
from capture_pipeline.klines.quality.sightings import count_attempts, find_absent, find_nonexistent
from capture_pipeline.lake.manifests import ArchiveRecord, RestPage
from capture_pipeline.settings.models import Gaps
from capture_pipeline.tables.gaps import EXPLAINED, Cause

_DAYS_UNTIL_PUBLISHED = 3
_EVER = 1 << 62
_QUARANTINED = {Trust.MISMATCH, Trust.MALFORMED}
_SEEN = "the exchange has no candle, seen once"
_NOT_ASKED = (
    "REST is not asked for it: neither it nor a usable archive file shows that the symbol traded then"
)
_SUSPECTED = "the exchange has no candle for a day or longer, verified; list it with its symbols in the outage calendar if it was suspended"


@dataclass(frozen=True)
class Evidence:
    """All that is known when gaps are explained.

    Attributes:
        step_us: Interval of the candles.
        trading: When the symbol traded, within the month.
        now_us: The present.
        outages: Outages and suspensions of this symbol.
        pages: REST answers.
        archives: Archive files, usable or not.
        settings: Thresholds.
        off_grid: Times of the exchange's candles that open off the grid.
        off_grid_listed: Times of which the calendar of irregular rows lists such candles.
        shift: How far those are shifted, in words.
        asked_next: Ranges for which a top-up would send a request now.
        asked_later: Ranges for which one would send a request once `sighting_minutes` have passed.
    """

    step_us: int
    trading: Range
    now_us: int
    outages: list[Outage]
    pages: list[RestPage]
    archives: list[ArchiveRecord]
    settings: Gaps
    off_grid: Ranges = field(default_factory=list)
    off_grid_listed: Ranges = field(default_factory=list)
    shift: str = ""
    asked_next: Ranges = field(default_factory=lambda: [(-_EVER, _EVER)])
    asked_later: Ranges = field(default_factory=lambda: [(-_EVER, _EVER)])


@dataclass(frozen=True)
class Gap:
    """One row of the ledger.

    Attributes:
        start_us: First missing open time.
        end_us: Exclusive.
        cause: Why.
        detail: In words.
        verified_nonexistent: Whether the exchange was seen without it often enough.
        attempts: Answers without it.
        filled_by: Source of the bars that filled it, None while it is open.
    """

    start_us: int
    end_us: int
    cause: Cause
    detail: str
    verified_nonexistent: bool = False
    attempts: int = 0
    filled_by: str | None = None

    def row(self, step_us: int) -> dict[str, object]:
        """As a row of `GAP_SCHEMA`."""
        return {
            "start_us": self.start_us,
            "end_us": self.end_us,
            "bars": (self.end_us - self.start_us) // step_us,
            "status": "filled" if self.filled_by else "open",
            "cause": str(self.cause),
            "explained": self.cause in EXPLAINED or self.filled_by is not None,
            "verified_nonexistent": self.verified_nonexistent,
            "attempts": self.attempts,
            "filled_by": self.filled_by,
            "detail": self.detail,
        }


def explain_gaps(missing: Ranges, evidence: Evidence) -> list[Gap]:
    """Give each missing range its cause; ranges are split where the cause changes, between two candles.

    A listed outage or suspension explains the candles that lie in it whole. One that it touches, or that lies close by, is its edge, and
    only once the exchange was seen without it often enough. Candles off the grid explain those of the grid once REST was seen without them,
    or where the calendar of irregular rows lists the time: a shifted file alone does not show that REST lacks them too.

    Args:
        missing: Ranges on the grid, up to the present.
        evidence: What is known.

    Returns:
        Gaps in order, all on the grid, together exactly `missing`.
    """
    step = evidence.step_us
    seen = whole_steps(union(*(find_absent(page) for page in evidence.pages)), step)
    verified = whole_steps(find_nonexistent(evidence.pages, evidence.settings), step)
    suspensions = [outage for outage in evidence.outages if outage.kind is Kind.SUSPENSION]
    halts = [outage for outage in evidence.outages if outage.kind is Kind.OUTAGE]
    edge = evidence.settings.outage_edge_minutes * MINUTE_US
    recent = touched_steps([(evidence.now_us - _DAYS_UNTIL_PUBLISHED * DAY_US, evidence.now_us)], step)
    unused = [record for record in evidence.archives if not record.usable]
    bad = [(record.start_us, record.end_us) for record in unused if record.trust in _QUARANTINED]
    unverified = [(record.start_us, record.end_us) for record in unused if record.unverified]
    published = [(record.start_us, record.end_us) for record in evidence.archives if record.usable]
    off_grid = touched_steps(evidence.off_grid, step)
    whole: Ranges = [(-_EVER, _EVER)]
    causes: list[tuple[Cause, Ranges, str]] = [
        (
            Cause.BEFORE_LISTING,
            whole_steps([(-_EVER, evidence.trading[0])], step),
            "the symbol did not trade yet",
        ),
        (
            Cause.AFTER_DELISTING,
            whole_steps([(evidence.trading[1], _EVER)], step),
            "the symbol no longer traded",
        ),
        *((Cause.SUSPENDED, ranges, reason) for ranges, reason in _listed(suspensions, step)),
        *((Cause.EXCHANGE_OUTAGE, ranges, reason) for ranges, reason in _listed(halts, step)),
        (
            Cause.OFF_GRID,
            intersect(off_grid, union(seen, touched_steps(evidence.off_grid_listed, step))),
            f"the exchange's candles of this time are shifted by {evidence.shift}; they are in the table bar_exclusions",
        ),
        (
            Cause.EXCHANGE_OUTAGE,
            intersect(verified, _near(halts, edge, step)),
            "edge of a listed outage, verified as non-existent",
        ),
        (
            Cause.SUSPENDED,
            intersect(verified, _near(suspensions, edge, step)),
            "edge of a listed suspension, verified as non-existent",
        ),
        (Cause.UNKNOWN, _long(verified, missing), _SUSPECTED),
        (
            Cause.UNKNOWN,
            verified,
            "the exchange has no candle, verified; list it in the outage calendar once its cause is known",
        ),
        (
            Cause.UNKNOWN,
            intersect(seen, evidence.asked_later),
            f"{_SEEN}; a top-up {evidence.settings.sighting_minutes} min later asks again",
        ),
        (Cause.UNKNOWN, seen, f"{_SEEN}; {_NOT_ASKED}"),
        *_ours(touched_steps(bad, step), "its archive file is quarantined", evidence),
        *_ours(touched_steps(unverified, step), "its archive file is unverified and not used", evidence),
        *_ours(
            off_grid,
            "its archive file has candles shifted off the grid instead, see bar_exclusions",
            evidence,
        ),
        *_ours(touched_steps(published, step), "its archive file left it out", evidence),
        (Cause.NOT_YET_PUBLISHED, recent, "no archive file holds it yet and REST was not asked"),
        *_ours(whole, "it was never asked for", evidence),
    ]
    gaps: list[Gap] = []
    left = union(missing)
    for cause, ranges, detail in causes:
        for start, end in intersect(left, ranges):
            proven = subtract([(start, end)], verified) == []
            gaps.append(Gap(start, end, cause, detail, proven, count_attempts(evidence.pages, start, end)))
        left = subtract(left, ranges)
    return sorted(gaps, key=lambda gap: gap.start_us)


def _ours(ranges: Ranges, what: str, evidence: Evidence) -> list[tuple[Cause, Ranges, str]]:
    """Divide ranges that this pipeline owes by their remedy. A top-up is named only where it would send a request."""
    return [
        (
            Cause.OURS,
            intersect(ranges, evidence.asked_next),
            f"{what}; run a top-up of this month to ask REST",
        ),
        (Cause.OURS, ranges, f"{what}; {_NOT_ASKED}"),
    ]


def find_filled_gaps(
    known: Iterable[tuple[Cause, Range]], sources: dict[str, Ranges], evidence: Evidence
) -> list[Gap]:
    """Rows for ranges that were missing once and are there now, whole candles each.

    Args:
        known: Ranges missing from an archive file, or in the ledger before, with the cause they had; the first one counts.
        sources: Ranges of the bars now, by source.
        evidence: What is known.
    """
    gaps: list[Gap] = []
    done: Ranges = []
    for cause, span in known:
        candles = touched_steps([span], evidence.step_us)
        new = subtract(candles, done)
        done = union(done, candles)
        detail = (
            "an archive file left it out; another source had it"
            if cause is Cause.ARCHIVE_OMISSION
            else "fetched since"
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


def _near(outages: list[Outage], edge_us: int, step_us: int) -> Ranges:
    """The candles that an entry touches or that lie close to it."""
    return touched_steps(
        [(outage.start_us - edge_us, outage.end_us + edge_us) for outage in outages], step_us
    )


def _long(verified: Ranges, missing: Ranges) -> Ranges:
    """Verified ranges of a day or longer: too long for an outage of a liquid symbol to go unlisted."""
    return [(start, end) for start, end in intersect(verified, union(missing)) if end - start >= DAY_US]


def _listed(outages: list[Outage], step_us: int) -> list[tuple[Ranges, str]]:
    """By entry, the candles that it takes away: those that all entries together cover whole."""
    covered = whole_steps([(outage.start_us, outage.end_us) for outage in outages], step_us)
    return [
        (intersect(touched_steps([(outage.start_us, outage.end_us)], step_us), covered), outage.reason)
        for outage in outages
    ]
