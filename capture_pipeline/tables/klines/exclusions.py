"""The table `bar_exclusions`: rows of raw files that are not bars, as sent, with the cause.

Every row that the exchange sent is kept. A row that opens between two open times of the interval's grid is
not a kline of that grid. `bars`, the gap ledger and coverage count only klines on the grid.
"""

from __future__ import annotations

from enum import StrEnum

from capture_pipeline.tables.klines.bars import BARS
from capture_pipeline.tables.table import INT64, KLINE_KEYS, TEXT, Column, Table


class Exclusion(StrEnum):
    """Reason why a row is not a bar."""

    OFF_GRID = "off_grid"
    """The row opens between two open times of the grid."""
    OUTSIDE_PERIOD = "outside_period"
    """The row opens outside the period of its file; the file of that period should contain it."""


EXCLUSIONS = Table(
    "bar_exclusions",
    "Unchanged rows of raw files that are not used as bars, because their open time is not a multiple of the "
    "interval or is outside the period of the file.",
    (
        *BARS.columns,
        Column(
            "cause",
            TEXT,
            "`off_grid`; or `outside_period`: the row opens outside the period of its file and belongs to "
            "another file",
        ),
        Column(
            "shift_us",
            INT64,
            "Time between the last open time of the grid and the open time of the row",
            "microseconds",
        ),
        Column("file", TEXT, "Raw file that contains the row"),
    ),
    KLINE_KEYS,
    """\
A row that opens between two open times of the grid is no kline of that grid. The exchange's klines are
shifted in this way from 2017-12-04 to 18 and from 2018-02-09 to 11, by seconds or by 28 min 14.789 s. This
table contains such rows as received. They never count as present. Bars of the grid may come from other
sources. If several sources have the same row, it is stored once. A partition without such rows has no file.

```sql
SELECT open_time_us, shift_us, close FROM bar_exclusions
WHERE symbol = 'BTCUSDT' AND cause = 'off_grid' ORDER BY open_time_us
```""",
)
