"""The kline archive's tables by name, for the catalogue."""

from __future__ import annotations

from capture_pipeline.lake import catalog
from capture_pipeline.lake.paths import Lake
from capture_pipeline.tables.bars import BAR_SCHEMA
from capture_pipeline.tables.gaps import GAP_SCHEMA, WINDOW_SCHEMA
from capture_pipeline.tables.merge import CONFLICT_SCHEMA

TABLES = {"bars": BAR_SCHEMA, "bar_conflicts": CONFLICT_SCHEMA, "bar_gaps": GAP_SCHEMA, "bar_windows": WINDOW_SCHEMA}


def refresh_catalog(lake: Lake) -> list[str]:
    """Build the catalogue's views anew; returns their names."""
    return catalog.refresh(lake, TABLES)
