"""Tables of the lake by name, for the catalogue."""

from __future__ import annotations

from capture_pipeline.lake import catalog
from capture_pipeline.lake.catalog import Table
from capture_pipeline.lake.paths import Lake
from capture_pipeline.tables.bars import BAR_SCHEMA
from capture_pipeline.tables.exclusions import EXCLUSION_SCHEMA
from capture_pipeline.tables.gaps import GAP_SCHEMA, WINDOW_SCHEMA
from capture_pipeline.tables.golden import TABLES as GOLDEN
from capture_pipeline.tables.merge import CONFLICT_SCHEMA

SESSION_KEYS = ("session", "symbol", "hour")
TABLES = {
    "bars": Table(BAR_SCHEMA),
    "bar_conflicts": Table(CONFLICT_SCHEMA),
    "bar_exclusions": Table(EXCLUSION_SCHEMA),
    "bar_gaps": Table(GAP_SCHEMA),
    "bar_windows": Table(WINDOW_SCHEMA),
    **{table.name: Table(table.polars_schema, SESSION_KEYS, table.nullable) for table in GOLDEN},
}


def refresh_catalog(lake: Lake) -> list[str]:
    """Refresh the catalogue of the lake; return the names of its views."""
    return catalog.refresh_views(lake, TABLES)
