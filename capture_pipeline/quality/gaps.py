"""Missing ranges to ledger rows: each gets exactly one cause, taken away in a fixed order so that none is counted twice. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from capture_pipeline.binance.archive import Trust
from capture_pipeline.binance.periods import DAY_US, MINUTE_US
from capture_pipeline.config import Gaps
from capture_pipeline.lake.manifests import ArchiveRecord, RestPage
from capture_pipeline.quality.outages import Outage
from capture_pipeline.quality.ranges import Range, Ranges, intersect, subtract, union
from capture_pipeline.quality.sightings import absent, attempts, nonexistent
from capture_pipeline.tables.gaps import EXPLAINED, Cause

_DAYS_UNTIL_PUBLISHED = 3
_BAD = {Trust.MISMATCH, Trust.MALFORMED, Trust.CHECKSUM_MISSING}


@dataclass(frozen=True)
class Evidence:
    """All that is known when gaps are explained.

    Attributes:
        step_us: Interval of the candles.
        trading: When the symbol traded, within the month.
        now_us: The present.
        outages: Those that hold for this symbol.
        pages: REST answers.
        archives: Archive files, usable or not.
        settings: Thresholds.
    """

    step_us: int
    trading: Range
    now_us: int
    outages: list[Outage]
    pages: list[RestPage]
    archives: list[ArchiveRecord]
    settings: Gaps


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


def explain(missing: Ranges, evidence: Evidence) -> list[Gap]:
    """Give each missing range its cause; ranges are split where the cause changes.

    Args:
        missing: Ranges on the grid, up to the present.
        evidence: What is known.

    Returns:
        Gaps in order, together exactly `missing`.
    """
    seen = union(*(absent(page) for page in evidence.pages))
    verified = nonexistent(evidence.pages, evidence.settings)
    listed = [(_aligned(outage, evidence.step_us), outage) for outage in evidence.outages]
    edge = evidence.settings.outage_edge_minutes * MINUTE_US
    near = [(start - edge, end + edge) for (start, end), _ in listed]
    recent = [(evidence.now_us - _DAYS_UNTIL_PUBLISHED * DAY_US, evidence.now_us)]
    bad = [(record.start_us, record.end_us) for record in evidence.archives if record.trust in _BAD and not record.usable]
    whole: Ranges = [(-(1 << 62), 1 << 62)]
    causes: list[tuple[Cause, Ranges, str]] = [
        (Cause.BEFORE_LISTING, [(-(1 << 62), evidence.trading[0])], "the symbol did not trade yet"),
        (Cause.AFTER_DELISTING, [(evidence.trading[1], 1 << 62)], "the symbol no longer traded"),
        *((Cause.EXCHANGE_OUTAGE, [span], outage.reason) for span, outage in listed),
        (Cause.EXCHANGE_OUTAGE, intersect(verified, near), "edge of a listed outage, verified as non-existent"),
        (Cause.UNKNOWN, verified, "the exchange has no candle, verified; list it in the outage calendar once its cause is known"),
        (Cause.UNKNOWN, seen, "the exchange has no candle, seen once; it is asked again"),
        (Cause.OURS, bad, "its archive file is quarantined or unverified; run a top-up to ask REST"),
        (Cause.NOT_YET_PUBLISHED, recent, "no archive file holds it yet and REST was not asked"),
        (Cause.OURS, whole, "it was never asked for; run a top-up"),
    ]
    gaps: list[Gap] = []
    left = union(missing)
    for cause, ranges, detail in causes:
        for start, end in intersect(left, ranges):
            proven = subtract([(start, end)], verified) == []
            gaps.append(Gap(start, end, cause, detail, proven, attempts(evidence.pages, start, end)))
        left = subtract(left, ranges)
    return sorted(gaps, key=lambda gap: gap.start_us)


def filled(known: Iterable[tuple[Cause, Range]], sources: dict[str, Ranges], evidence: Evidence) -> list[Gap]:
    """Rows for ranges that were missing once and are there now.

    Args:
        known: Ranges missing from an archive file, or in the ledger before, with the cause they had; the first one counts.
        sources: Ranges of the bars now, by source.
        evidence: What is known.
    """
    gaps: list[Gap] = []
    done: Ranges = []
    for cause, span in known:
        new = subtract([span], done)
        done = union(done, [span])
        detail = "an archive file left it out; another source had it" if cause is Cause.ARCHIVE_OMISSION else "fetched since"
        for source, ranges in sources.items():
            gaps += [
                Gap(start, end, cause, detail, attempts=attempts(evidence.pages, start, end), filled_by=source)
                for start, end in intersect(new, ranges)
            ]
    return sorted(gaps, key=lambda gap: gap.start_us)


def _aligned(outage: Outage, step_us: int) -> Range:
    """The candles that an outage takes away: those it covers wholly or in part."""
    return outage.start_us // step_us * step_us, -(-outage.end_us // step_us) * step_us
