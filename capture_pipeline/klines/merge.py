"""Rows of several files: separation of rows that are no bars, and merge of the rest.

Monthly files precede daily files, and these REST. Conflicts are kept with both values. The functions are
pure: the same frames give the same rows in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import polars as pl

from capture_pipeline.binance.archive.klines.columns import VOLUME
from capture_pipeline.binance.periods import TimeRange
from capture_pipeline.tables.klines.bars import BARS, SOURCES, VALUE_COLUMNS
from capture_pipeline.tables.klines.conflicts import CONFLICTS
from capture_pipeline.tables.klines.exclusions import EXCLUSIONS, Exclusion

_ROWS_AT_ONCE = 500_000


@dataclass(frozen=True)
class Part:
    """Rows of one file.

    Attributes:
        source: monthly, daily or rest.
        file: Name of the file, for the conflicts table.
        rows: Kline frame.
        bounds: Period of the file; None if it has no fixed period.
    """

    source: str
    file: str
    rows: pl.DataFrame
    bounds: TimeRange | None = None


@dataclass(frozen=True)
class MergeResult:
    """Result of a merge.

    Attributes:
        bars: Frame of `BARS`, sorted by open time, each open time once.
        conflicts: Frame of `CONFLICTS`.
        duplicates: Count of rows with the same values as a kept row.
    """

    bars: pl.DataFrame
    conflicts: pl.DataFrame
    duplicates: int


@dataclass(frozen=True)
class SeparatedRows:
    """Rows of files, divided into bars and others.

    Attributes:
        parts: The files with the rows that can be bars.
        exclusions: Frame of `EXCLUSIONS` with all other rows, each once.
    """

    parts: list[Part]
    exclusions: pl.DataFrame


def separate_rows(parts: Sequence[Part], step_us: int) -> SeparatedRows:
    """Divide the rows of files into those that can be bars and others.

    Args:
        parts: Files in any order.
        step_us: Interval of the klines.
    """
    kept: list[Part] = []
    excluded: list[pl.DataFrame] = []
    for part in sorted(parts, key=lambda part: SOURCES.index(part.source)):
        opened = part.rows["open_time_us"]
        off_grid = opened % step_us != 0
        outside = (
            ~opened.is_between(*part.bounds, closed="left")
            if part.bounds
            else pl.repeat(value=False, n=opened.len(), eager=True)
        )
        unfit = off_grid | outside
        if not unfit.any():
            kept.append(part)
            continue
        kept.append(replace(part, rows=part.rows.filter(~unfit)))
        cause = (
            pl.when(off_grid)
            .then(pl.lit(str(Exclusion.OFF_GRID)))
            .otherwise(pl.lit(str(Exclusion.OUTSIDE_PERIOD)))
        )
        rows = part.rows.with_columns(
            source=pl.lit(part.source),
            cause=cause,
            shift_us=pl.col("open_time_us") % step_us,
            file=pl.lit(part.file),
        )
        excluded.append(rows.filter(unfit).select(*EXCLUSIONS.schema))
    if not excluded:
        return SeparatedRows(kept, pl.DataFrame(schema=EXCLUSIONS.schema))
    same = ["cause", "open_time_us", "close_time_us", *VALUE_COLUMNS]
    table = pl.concat(excluded).unique(same, keep="first", maintain_order=True)
    return SeparatedRows(kept, table.sort("open_time_us", maintain_order=True))


def merge(parts: Sequence[Part]) -> MergeResult:
    """Merge files into one table.

    Args:
        parts: Files in any order; within one source an earlier file has priority.
    """
    if len(parts) < 2 or sum(part.rows.height for part in parts) <= _ROWS_AT_ONCE:  # noqa: PLR2004
        return _merge(parts)
    # Rows of one open time are in one window, so windows can be merged separately: a sort needs two copies.
    windows = [_merge(window) for window in _windows(parts)]
    return MergeResult(
        pl.concat((window.bars for window in windows), rechunk=False),
        pl.concat(window.conflicts for window in windows),
        sum(window.duplicates for window in windows),
    )


def _windows(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Yield the rows of each window of open times, in order of time."""
    opens = [part.rows["open_time_us"] for part in parts if part.rows.height]
    edges = [int(edge) for each in opens for edge in (each.min(), each.max())]  # type: ignore[arg-type]
    first, last = min(edges), max(edges)
    count = sum(each.len() for each in opens) // _ROWS_AT_ONCE + 1
    step = (last - first) // count + 1
    for start in range(first, last + 1, step):
        is_inside = pl.col("open_time_us").is_between(start, start + step, closed="left")
        yield [replace(part, rows=rows) for part in parts if (rows := part.rows.filter(is_inside)).height]


def _merge(parts: Sequence[Part]) -> MergeResult:
    ordered = sorted(parts, key=lambda part: SOURCES.index(part.source))
    if len(ordered) == 1 and _strictly_increasing(ordered[0].rows):
        return MergeResult(
            _with_source(ordered[0]).select(*BARS.schema), pl.DataFrame(schema=CONFLICTS.schema), 0
        )
    if not ordered:
        return MergeResult(pl.DataFrame(schema=BARS.schema), pl.DataFrame(schema=CONFLICTS.schema), 0)
    rows = pl.concat(_with_source(part).with_columns(pl.lit(part.file).alias("file")) for part in ordered)
    rows = rows.with_row_index("rank").sort("open_time_us", "rank")
    first = rows["open_time_us"].is_first_distinct()
    kept, others = rows.filter(first), rows.filter(~first)
    conflicts, conflicting = _find_conflicts(kept, others)
    return MergeResult(kept.select(*BARS.schema), conflicts, others.height - conflicting)


def _strictly_increasing(rows: pl.DataFrame) -> bool:
    return bool((rows["open_time_us"].diff().drop_nulls() > 0).all())


def _with_source(part: Part) -> pl.DataFrame:
    return part.rows.with_columns(pl.lit(part.source).alias("source"))


class _Conflicts(NamedTuple):
    """Table of conflicts, and the count of rows with a conflict."""

    table: pl.DataFrame
    row_count: int


def _find_conflicts(kept: pl.DataFrame, others: pl.DataFrame) -> _Conflicts:
    """Find the conflicts of `others` with the kept rows."""
    both = others.join(kept, on="open_time_us", how="left", suffix="_kept").sort("open_time_us", "rank")
    differs = pl.any_horizontal(pl.col(name) != pl.col(f"{name}_kept") for name in VALUE_COLUMNS)
    bad = both.filter(differs)
    fields = [
        bad.filter(pl.col(name) != pl.col(f"{name}_kept")).select(
            "rank",
            "open_time_us",
            pl.lit(name).alias("field"),
            pl.col("source_kept").alias("kept_source"),
            pl.col(f"{name}_kept").cast(VOLUME).alias("kept_value"),
            pl.col("file_kept").alias("kept_file"),
            pl.col("source").alias("other_source"),
            pl.col(name).cast(VOLUME).alias("other_value"),
            pl.col("file").alias("other_file"),
        )
        for name in VALUE_COLUMNS
    ]
    table = pl.concat(fields).sort("open_time_us", "rank", "field").select(*CONFLICTS.schema)
    return _Conflicts(table, bad.height)
