"""Evidence and page sections of the report on diffs: figures, gaps over time, list of gaps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from capture_pipeline.checks.feasibility import GAPS
from capture_pipeline.checks.model import Verdict
from capture_pipeline.feasibility.evidence import Evidence, Reading, new_evidence
from capture_pipeline.feasibility.sequence_gaps.measurement import FeedFigures
from capture_pipeline.reporting.charts import RED, Chart, Ends, Section, draw_bars, format_value

ASSET = "delta_feed_report"
TITLE = "Diffs of the order book"
DECIDES = "lost ids against all ids"
_ROWS = {
    "Diffs": "diffs",
    "Ids from first to last": "ids",
    "Ids lost": "lost_ids",
    "Gaps": "gaps",
    "Diffs received twice": "duplicates",
    "Diffs that overlap": "overlaps",
    "Lost ids of all ids, % (decides)": "lost_ids_percent",
    "Lost messages of all expected, estimated, %": "lost_events_percent",
    "Gaps of all messages, %": "discontinuities_percent",
    "Snapshots": "snapshots",
    "Until the first valid book, ms": "first_valid_ms",
    "Gaps that a snapshot recovered": "recovered",
    "Recovery, median, ms": "recovery_ms",
    "Recovery, longest, ms": "longest_recovery_ms",
}


def build_reading(feeds: Sequence[FeedFigures]) -> Reading:
    """Build the reading of the criterion; the worst feed decides. It has no value if a feed has no diff."""
    if not feeds or not all(feed.diffs for feed in feeds):
        return Reading(
            criterion=GAPS.name,
            measured=None,
            note="there is a symbol without diffs" if feeds else "there is no symbol",
        )
    worst = max(feeds, key=lambda feed: feed.lost_ids_percent)
    note = (
        f"{DECIDES}; worst: {worst.subject}: {worst.lost_ids:,} of {worst.ids:,} in {worst.gaps:,} gaps; "
        f"lost messages {worst.lost_events_percent:.4g} %, "
        f"gaps of messages {worst.discontinuities_percent:.4g} %"
    )
    return Reading(criterion=GAPS.name, measured=worst.lost_ids_percent, note=note)


def build_evidence(feeds: Sequence[FeedFigures], inputs: dict[str, str]) -> Evidence:
    """Build the evidence.

    Args:
        feeds: Figures of each symbol.
        inputs: SHA-256 of the inputs, by file.
    """
    names = (
        "diffs",
        "lost_ids",
        "gaps",
        "lost_ids_percent",
        "lost_events_percent",
        "discontinuities_percent",
        "longest_recovery_ms",
    )
    figures = {
        f"{feed.subject.rpartition(' ')[2]}: {name}": float(value)
        for feed in feeds
        for name in names
        if (value := getattr(feed, name)) is not None
    }
    return new_evidence(
        ASSET, [build_reading(feeds)], figures, inputs, {"feeds": [feed.model_dump() for feed in feeds]}
    )


def build_sections(feeds: Sequence[FeedFigures]) -> list[Section]:
    """Build the sections of the page: one for each symbol, then one for each symbol with gaps."""
    return [
        Section(
            title=feed.subject,
            lines=_describe_feed(feed),
            head=["", "value"],
            rows=[[label, format_value(getattr(feed, name), 4)] for label, name in _ROWS.items()],
            plots=_build_plots(feed),
        )
        for feed in feeds
    ] + [_build_gap_section(feed) for feed in feeds if feed.gaps]


def _describe_feed(feed: FeedFigures) -> list[str]:
    verdict = GAPS.verdict(feed.lost_ids_percent if feed.diffs else None)
    lines = [
        (
            f"{verdict}: {feed.lost_ids_percent:.4g} % of the ids are lost, "
            f"and less than {GAPS.threshold.limit:g} % are allowed"
        )
    ]
    if verdict is Verdict.UNKNOWN:
        return ["There is no diff."]
    open_gaps = feed.gaps - feed.recovered
    if open_gaps:
        lines.append(
            f"After {open_gaps:,} of {feed.gaps:,} gaps no snapshot made the book valid "
            "before the next gap or the end"
        )
    if feed.first_valid_ms is None:
        lines.append("No snapshot fits the diffs: a book cannot be rebuilt from these diffs only")
    return lines


def _build_plots(feed: FeedFigures) -> list[Chart]:
    whole = len(feed.messages_by_period) * feed.period_s / 60
    ends = Ends("0 min", f"{whole / 2:,.1f} min", f"{whole:,.1f} min")
    each = f"each {feed.period_s // 60} min"
    return [
        Chart(f"Diffs, {each}", draw_bars("diffs over time", feed.messages_by_period, ends)),
        Chart(f"Lost ids, {each}", draw_bars("lost ids over time", feed.lost_by_period, ends, RED)),
    ]


def _build_gap_section(feed: FeedFigures) -> Section:
    rows = [
        [
            datetime.fromtimestamp(gap.capture_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            format_value(gap.last_good_id),
            format_value(gap.first_good_id),
            format_value(gap.lost),
            format_value(gap.recovered_ms),
        ]
        for gap in feed.listed
    ]
    more = [f"The first {len(rows)} of {feed.gaps:,}"] if feed.gaps > len(rows) else []
    return Section(
        f"{feed.subject}: gaps",
        more,
        ["Found at", "Last good id", "First good id", "Ids lost", "Recovered after, ms"],
        rows,
    )
