"""The `bar_exclusions` table: rows of raw files that are not bars, as sent, with the cause.

Every row that the exchange sent is kept. A row that opens between two open times of the interval's grid is
not a candle of that grid. `bars`, the gap ledger and coverage count only candles on the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import polars as pl

from capture_pipeline.tables.bars import BAR_SCHEMA, COLUMN_DESCRIPTIONS, SOURCES, VALUE_COLUMNS
from capture_pipeline.tables.merge import Part


class Exclusion(StrEnum):
    """Reason why a row is not a bar."""

    OFF_GRID = "off_grid"
    """The row opens between two open times of the grid."""
    OUTSIDE_PERIOD = "outside_period"
    """The row opens outside the period of its file; the file of that period should contain it."""


EXCLUSION_SCHEMA: dict[str, pl.DataType] = {
    **BAR_SCHEMA,
    "cause": pl.String(),
    "shift_us": pl.Int64(),
    "file": pl.String(),
}
EXCLUSION_DESCRIPTIONS = {
    **COLUMN_DESCRIPTIONS,
    "cause": ", ".join(Exclusion),
    "shift_us": "Time between the last open time of the grid and this one, microseconds",
    "file": "Raw file that contains the row",
}


@dataclass(frozen=True)
class SeparatedRows:
    """Rows of files, divided into bars and others.

    Attributes:
        parts: The files with the rows that can be bars.
        exclusions: Frame of `EXCLUSION_SCHEMA` with all other rows, each once.
    """

    parts: list[Part]
    exclusions: pl.DataFrame


def separate_rows(parts: Sequence[Part], step_us: int) -> SeparatedRows:
    """Divide the rows of files into those that can be bars and others.

    Args:
        parts: Files in any order.
        step_us: Interval of the candles.
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
        excluded.append(rows.filter(unfit).select(*EXCLUSION_SCHEMA))
    if not excluded:
        return SeparatedRows(kept, pl.DataFrame(schema=EXCLUSION_SCHEMA))
    same = ["cause", "open_time_us", "close_time_us", *VALUE_COLUMNS]
    table = pl.concat(excluded).unique(same, keep="first", maintain_order=True)
    return SeparatedRows(kept, table.sort("open_time_us", maintain_order=True))
