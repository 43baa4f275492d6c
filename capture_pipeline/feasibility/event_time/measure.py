"""What origin times are worth: missing, invalid, filled in from the receipt, rounded, in order, and how far from the receipt.

Classes, each message in one: `missing` (null or not above 0), `invalid` (before 2009, or a day and more from its receipt),
`receipt_filled` (the receipt's own microsecond: somebody filled it in, so it tells nothing), `rounded` (the whole stream lies on a coarser
unit than its receipts do), `native`. Skew is receipt less origin, of the last two. Its median is what the two clocks differ by, and the
usual way of a message; it is shown, and taken out for the criterion. Percentiles are exact to the microsecond: equal skews are counted.
"""

from __future__ import annotations

import polars as pl
from pydantic import BaseModel, ConfigDict

from capture_pipeline.feasibility.event_time.streams import TimedStream
from capture_pipeline.feasibility.event_time.weighted_quantiles import US_A_MS, Counted, Histogram, histogram
from capture_pipeline.lake.parquet import guard_parquet

PERCENTILES = {"min": 0.0, "p1": 0.01, "p5": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
UNITS = {"1 s": 10**9, "1 ms": 10**6, "1 µs": 10**3, "1 ns": 1}
_FIRST_NS, _DAY_NS = 1_230_768_000 * 10**9, 86_400 * 10**9
_PERIODS = 60


class StreamTimes(BaseModel):
    """One stream.

    Attributes:
        name: Of the stream.
        judged: Whether it counts in the criteria.
        messages: All of them.
        null: Without an origin time.
        zero: With one that is not above 0.
        invalid: Before 2009, or a day and more from the receipt.
        receipt_filled: See above.
        rounded: Likewise.
        native: Likewise.
        resolution: The coarsest unit that all valid origin times are multiples of; None without any.
        receipt_resolution: Likewise of receipts.
        regressions: Valid origin times before their predecessor.
        largest_regression_ms: Of them; 0 without any.
        largest_step_ms: The longest time between two that follow one another.
        skew_ms: Receipt less origin, by percentile; empty where nothing could be measured.
        corrected_ms: Likewise less the median.
        p95_ms: 95th percentile of the corrected skew's size.
        offset_ms: The median skew.
        drift_ms: By how much the median of a sixtieth of the time differs from that of another, at most.
        offsets_ms: Medians of these periods, None where one has no message.
        histogram: Of the corrected skew, from its first to its 99th percentile and as far again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    judged: bool
    messages: int
    null: int
    zero: int
    invalid: int
    receipt_filled: int
    rounded: int
    native: int
    resolution: str | None
    receipt_resolution: str | None
    regressions: int
    largest_regression_ms: float
    largest_step_ms: float
    skew_ms: dict[str, float]
    corrected_ms: dict[str, float]
    p95_ms: float | None
    offset_ms: float | None
    drift_ms: float | None
    offsets_ms: list[float | None]
    histogram: Histogram | None

    @property
    def unusable_percent(self) -> float | None:
        """Missing, invalid and filled in, of all messages; None without any."""
        unusable = self.null + self.zero + self.invalid + self.receipt_filled
        return 100 * unusable / self.messages if self.messages else None


def measure(stream: TimedStream) -> StreamTimes:
    """Measure one stream, in a few passes that hold no more than a block of it and its distinct skews."""
    origin, receipt = pl.col("origin_ns"), pl.col("receipt_ns")
    skew = receipt - origin
    there = (origin > 0).fill_null(value=False)
    valid = there & (origin >= _FIRST_NS) & (skew.abs() < _DAY_NS)
    filled = valid & (origin // 1000 == receipt // 1000)
    told = valid & ~filled
    counts = _row(
        stream.frame.select(
            pl.len().alias("messages"),
            origin.is_null().sum().alias("null"),
            (origin <= 0).sum().alias("zero"),
            (there & ~valid).sum().alias("invalid"),
            filled.sum().alias("filled"),
            told.sum().alias("told"),
            *((~valid | (origin % unit == 0)).all().alias(f"origin {name}") for name, unit in UNITS.items()),
            *((receipt % unit == 0).all().alias(f"receipt {name}") for name, unit in UNITS.items()),
            receipt.min().alias("first"),
            receipt.max().alias("last"),
        )
    )
    step = origin.diff()
    steps = _row(
        stream.frame.filter(valid).select(
            (step < 0).sum().alias("regressions"),
            step.min().alias("least"),
            step.max().alias("most"),
            pl.len().alias("valid"),
        )
    )
    resolution = _coarsest(counts, "origin") if steps["valid"] else None
    of_receipts = _coarsest(counts, "receipt") if counts["messages"] else None
    rounded = (
        resolution is not None
        and of_receipts is not None
        and UNITS[resolution] > max(UNITS[of_receipts], 1000)
    )
    width = max(1, (int(counts["last"] or 0) - int(counts["first"] or 0)) // _PERIODS + 1)
    grouped = stream.frame.filter(told).group_by(
        (skew // 1000).alias("skew_us"), ((receipt - int(counts["first"] or 0)) // width).alias("period")
    )
    return StreamTimes(
        name=stream.name,
        judged=stream.judged,
        messages=counts["messages"],
        null=counts["null"],
        zero=counts["zero"] or 0,
        invalid=counts["invalid"],
        receipt_filled=counts["filled"],
        rounded=counts["told"] if rounded else 0,
        native=0 if rounded else counts["told"],
        resolution=resolution,
        receipt_resolution=of_receipts,
        regressions=steps["regressions"],
        largest_regression_ms=max(0, -int(steps["least"] or 0)) / 1e6,
        largest_step_ms=max(0, int(steps["most"] or 0)) / 1e6,
        **_skews(_collect(grouped.agg(pl.len().cast(pl.Int64).alias("count")).sort("skew_us"))),
    )


def _skews(grouped: pl.DataFrame) -> dict[str, object]:
    """Everything that follows from counted skews, in microseconds, by period."""
    if grouped.is_empty():
        nothing = dict.fromkeys(("p95_ms", "offset_ms", "drift_ms", "histogram"))
        return {"skew_ms": {}, "corrected_ms": {}, "offsets_ms": [], **nothing}
    everything = grouped.group_by("skew_us", maintain_order=True).agg(pl.col("count").sum())
    skew = Counted(everything["skew_us"].to_numpy(), everything["count"].to_numpy())
    offset = skew.at(0.5)
    raw = {name: skew.at(share) / US_A_MS for name, share in PERCENTILES.items()}
    medians: dict[int, float] = {
        int(period): Counted(part["skew_us"].to_numpy(), part["count"].to_numpy()).at(0.5) / US_A_MS
        for (period,), part in grouped.group_by("period")
    }
    return {
        "skew_ms": raw,
        "corrected_ms": {name: round(value - offset / US_A_MS, 3) for name, value in raw.items()},
        "p95_ms": skew.sizes(offset).at(0.95) / US_A_MS,
        "offset_ms": offset / US_A_MS,
        "drift_ms": round(max(medians.values()) - min(medians.values()), 3),
        "offsets_ms": [medians.get(period) for period in range(_PERIODS)],
        "histogram": histogram(skew, offset),
    }


def _row(frame: pl.LazyFrame) -> dict[str, int]:
    return _collect(frame).row(0, named=True)


def _collect(frame: pl.LazyFrame) -> pl.DataFrame:
    with guard_parquet(
        "a table of the stream", remedy="fetch the file again, or convert the recording again"
    ):
        return frame.collect(engine="streaming")


def _coarsest(counts: dict[str, int], what: str) -> str:
    return next(name for name in UNITS if counts[f"{what} {name}"])
