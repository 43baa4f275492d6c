"""The table `bar_conflicts`: one row for each field of a bar on which two rows disagree."""

from __future__ import annotations

from capture_pipeline.binance.archive.klines.columns import VOLUME
from capture_pipeline.tables.table import INT64, KLINE_KEYS, TEXT, Column, Table

CONFLICTS = Table(
    "bar_conflicts",
    "Values on which two sources of a bar differ: one row per field, with both values and their files.",
    (
        Column("open_time_us", INT64, "Open time of the bar", "microseconds UTC"),
        Column("field", TEXT, "The value column of `bars` on which the sources disagree"),
        Column("kept_source", TEXT, "Source of the bar that was kept"),
        Column("kept_value", VOLUME, "Value of the bar that was kept", "unit of the field"),
        Column("kept_file", TEXT, "Raw file of the bar that was kept"),
        Column("other_source", TEXT, "Source of the other value"),
        Column("other_value", VOLUME, "Value of the other source", "unit of the field"),
        Column("other_file", TEXT, "Raw file of the other source"),
    ),
    KLINE_KEYS,
    """\
Only values are compared: a different `time_unit` or `close_time_us` is no conflict. A partition without
conflicts has no file.""",
)
