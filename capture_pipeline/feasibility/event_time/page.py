"""Sections of the page on origin times: recommendation, table of all streams, plots of the skew."""

from __future__ import annotations

from collections.abc import Sequence

from capture_pipeline.feasibility.event_time.evidence import OriginReport
from capture_pipeline.feasibility.event_time.measurement import PERCENTILES, StreamTimes
from capture_pipeline.reporting.charts import Chart, Ends, Section, draw_bars, draw_line, format_value

TITLE = "Origin times"
_ROWS = {
    "Messages": "messages",
    "Without origin time": "null",
    "Origin time not above 0": "zero",
    "Invalid: before 2009, or a day from the receipt": "invalid",
    "Filled in from the receipt": "receipt_filled",
    "Rounded to a coarser unit than receipts": "rounded",
    "Native": "native",
    "Missing, invalid or filled in, %": "unusable_percent",
    "Unit of origin times": "resolution",
    "Unit of receipts": "receipt_resolution",
    "Regressions": "regressions",
    "Largest regression, ms": "largest_regression_ms",
    "Longest step, ms": "largest_step_ms",
    "Offset of the clocks (median skew), ms": "offset_ms",
    "Moved within the time by, ms": "drift_ms",
    "Skew without offset, 95th percentile of its size, ms": "p95_ms",
}


def build_sections(reports: Sequence[OriginReport]) -> list[Section]:
    """Build one section for each report: recommendation, figures and plots."""
    return [
        Section(
            title=f"{report.subject}: order events by {report.clock}",
            lines=report.reasons,
            head=[
                "",
                *(f"{stream.name}{'' if stream.judged else ' (not judged)'}" for stream in report.streams),
            ],
            rows=[
                *(
                    [label, *(format_value(getattr(stream, name)) for stream in report.streams)]
                    for label, name in _ROWS.items()
                ),
                *(
                    [
                        f"Skew {name}, ms",
                        *(format_value(stream.skew_ms.get(name)) for stream in report.streams),
                    ]
                    for name in PERCENTILES
                ),
                *(
                    [
                        f"Skew without offset {name}, ms",
                        *(format_value(stream.corrected_ms.get(name)) for stream in report.streams),
                    ]
                    for name in PERCENTILES
                ),
            ],
            plots=[plot for stream in report.streams for plot in _build_plots(stream)],
        )
        for report in reports
    ]


def _build_plots(stream: StreamTimes) -> list[Chart]:
    found = stream.histogram
    if found is None:
        return []
    end = found.start_ms + found.width_ms * len(found.counts)
    ends = Ends(f"{found.start_ms:,.3f} ms", f"{(found.start_ms + end) / 2:,.3f} ms", f"{end:,.3f} ms")
    outside = f"{found.below:,} messages are below the range, {found.above:,} above"
    return [
        Chart(
            f"{stream.name}: skew without offset, messages by bin; {outside}",
            draw_bars(f"skew of {stream.name}", found.counts, ends),
        ),
        Chart(
            f"{stream.name}: median skew over time, ms",
            draw_line(f"offset of {stream.name}", stream.offsets_ms, Ends("first message", "", "last")),
        ),
    ]
