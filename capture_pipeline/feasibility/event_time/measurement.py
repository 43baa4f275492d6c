"""Measurement of origin times: validity, resolution, order, and distance from the receipt.

Each message has one class:

- `missing`: the origin time is null or not above 0,
- `invalid`: it is before 2009, or a day or more from the receipt,
- `receipt_filled`: it has the receipt's microsecond, so it was copied from the receipt and has no
  information,
- `rounded`: all origin times of the stream have a coarser unit than the receipts,
- `native`: all others.

The skew is receipt less origin, for the last two classes. Its median is the difference of the two clocks plus
the usual duration of the transport. It is reported, and subtracted for the criterion. Percentiles are exact
to the microsecond, because equal skews are counted.
"""

from __future__ import annotations

import polars as pl
from pydantic import BaseModel, ConfigDict

from capture_pipeline.feasibility.event_time.streams import TimedStream
from capture_pipeline.feasibility.event_time.weighted_quantiles import (
    US_A_MS,
    Histogram,
    WeightedValues,
    build_histogram,
)
from capture_pipeline.lake.parquet import guard_parquet

PERCENTILES = {"min": 0.0, "p1": 0.01, "p5": 0.05, "p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
UNITS = {"1 s": 10**9, "1 ms": 10**6, "1 µs": 10**3, "1 ns": 1}
_FIRST_NS, _DAY_NS = 1_230_768_000 * 10**9, 86_400 * 10**9
_PERIODS = 60


class StreamTimes(BaseModel):
    """Measurement of one stream. Counts are numbers of messages.

    Attributes:
        name: Name of the stream.
        judged: The stream counts in the criteria.
        messages: All messages.
        null: Messages without an origin time.
        zero: Messages with an origin time that is not above 0.
        invalid: Messages of the class `invalid`.
        receipt_filled: Messages of the class `receipt_filled`.
        rounded: Messages of the class `rounded`.
        native: Messages of the class `native`.
        resolution: Coarsest unit of all valid origin times; None without a valid one.
        receipt_resolution: Coarsest unit of all receipts; None without a message.
        regressions: Messages whose valid origin time is earlier than the previous valid one.
        largest_regression_ms: Largest of these differences; 0 without one.
        largest_step_ms: Longest time between two consecutive valid origin times.
        skew_ms: Skew by percentile; empty without a usable origin time.
        corrected_ms: Skew less its median, by percentile.
        p95_ms: 95th percentile of the absolute value of the skew less its median.
        offset_ms: Median skew.
        drift_ms: Largest difference between the medians of two periods; a period is a sixtieth of the whole
            time.
        offsets_ms: Medians of these periods; None for a period without a message.
        histogram: Histogram of the skew less its median; its range is twice that of the 1st to 99th
            percentile.
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
        """Percentage of messages with a missing, invalid or copied origin time; None without a message."""
        unusable = self.null + self.zero + self.invalid + self.receipt_filled
        return 100 * unusable / self.messages if self.messages else None


def measure_stream(stream: TimedStream) -> StreamTimes:
    """Measure one stream in a few passes, with the memory of a block and of the distinct skews."""
    origin, receipt = pl.col("origin_ns"), pl.col("receipt_ns")
    skew = receipt - origin
    is_present = (origin > 0).fill_null(value=False)
    valid = is_present & (origin >= _FIRST_NS) & (skew.abs() < _DAY_NS)
    filled = valid & (origin // 1000 == receipt // 1000)
    usable = valid & ~filled
    counts = _collect_row(
        stream.frame.select(
            pl.len().alias("messages"),
            origin.is_null().sum().alias("null"),
            (origin <= 0).sum().alias("zero"),
            (is_present & ~valid).sum().alias("invalid"),
            filled.sum().alias("filled"),
            usable.sum().alias("usable"),
            *((~valid | (origin % unit == 0)).all().alias(f"origin {name}") for name, unit in UNITS.items()),
            *((receipt % unit == 0).all().alias(f"receipt {name}") for name, unit in UNITS.items()),
            receipt.min().alias("first"),
            receipt.max().alias("last"),
        )
    )
    step = origin.diff()
    steps = _collect_row(
        stream.frame.filter(valid).select(
            (step < 0).sum().alias("regressions"),
            step.min().alias("min"),
            step.max().alias("max"),
            pl.len().alias("valid"),
        )
    )
    resolution = _find_coarsest(counts, "origin") if steps["valid"] else None
    receipt_resolution = _find_coarsest(counts, "receipt") if counts["messages"] else None
    is_rounded = (
        resolution is not None
        and receipt_resolution is not None
        and UNITS[resolution] > max(UNITS[receipt_resolution], 1000)
    )
    width = max(1, (int(counts["last"] or 0) - int(counts["first"] or 0)) // _PERIODS + 1)
    grouped = stream.frame.filter(usable).group_by(
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
        rounded=counts["usable"] if is_rounded else 0,
        native=0 if is_rounded else counts["usable"],
        resolution=resolution,
        receipt_resolution=receipt_resolution,
        regressions=steps["regressions"],
        largest_regression_ms=max(0, -int(steps["min"] or 0)) / 1e6,
        largest_step_ms=max(0, int(steps["max"] or 0)) / 1e6,
        **_measure_skews(_collect(grouped.agg(pl.len().cast(pl.Int64).alias("count")).sort("skew_us"))),
    )


def _measure_skews(grouped: pl.DataFrame) -> dict[str, object]:
    """Compute the fields of `StreamTimes` about the skew from counts of skews in microseconds, by period."""
    if grouped.is_empty():
        empty = dict.fromkeys(("p95_ms", "offset_ms", "drift_ms", "histogram"))
        return {"skew_ms": {}, "corrected_ms": {}, "offsets_ms": [], **empty}
    everything = grouped.group_by("skew_us", maintain_order=True).agg(pl.col("count").sum())
    skew = WeightedValues(everything["skew_us"].to_numpy(), everything["count"].to_numpy())
    offset = skew.at(0.5)
    raw = {name: skew.at(share) / US_A_MS for name, share in PERCENTILES.items()}
    medians: dict[int, float] = {
        int(period): WeightedValues(part["skew_us"].to_numpy(), part["count"].to_numpy()).at(0.5) / US_A_MS
        for (period,), part in grouped.group_by("period")
    }
    return {
        "skew_ms": raw,
        "corrected_ms": {name: round(value - offset / US_A_MS, 3) for name, value in raw.items()},
        "p95_ms": skew.sizes(offset).at(0.95) / US_A_MS,
        "offset_ms": offset / US_A_MS,
        "drift_ms": round(max(medians.values()) - min(medians.values()), 3),
        "offsets_ms": [medians.get(period) for period in range(_PERIODS)],
        "histogram": build_histogram(skew, offset),
    }


def _collect_row(frame: pl.LazyFrame) -> dict[str, int]:
    return _collect(frame).row(0, named=True)


def _collect(frame: pl.LazyFrame) -> pl.DataFrame:
    with guard_parquet(
        "a table of the stream", remedy="download the file again, or convert the recording again"
    ):
        return frame.collect(engine="streaming")


def _find_coarsest(counts: dict[str, int], what: str) -> str:
    return next(name for name in UNITS if counts[f"{what} {name}"])
