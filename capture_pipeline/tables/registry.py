"""List of all tables. The views, the documentation and the tests are derived from it."""

from __future__ import annotations

from capture_pipeline.tables.golden.checkpoints import CHECKPOINTS
from capture_pipeline.tables.golden.depth import DEPTH
from capture_pipeline.tables.golden.refills import REFILLS
from capture_pipeline.tables.golden.samples import LONG_SAMPLES, wide_samples
from capture_pipeline.tables.golden.snapshots import SNAPSHOTS
from capture_pipeline.tables.golden.trades import TRADES
from capture_pipeline.tables.klines.bars import BARS
from capture_pipeline.tables.klines.conflicts import CONFLICTS
from capture_pipeline.tables.klines.coverage import COVERAGE
from capture_pipeline.tables.klines.exclusions import EXCLUSIONS
from capture_pipeline.tables.klines.gaps import GAPS
from capture_pipeline.tables.klines.raw import RAW_KLINES
from capture_pipeline.tables.klines.windows import WINDOWS

SESSION_TABLES = (TRADES, DEPTH, SNAPSHOTS)
"""Tables that the conversion of a recording writes."""
TABLES = (
    RAW_KLINES,
    BARS,
    CONFLICTS,
    EXCLUSIONS,
    GAPS,
    WINDOWS,
    COVERAGE,
    *SESSION_TABLES,
    REFILLS,
    CHECKPOINTS,
    wide_samples(1),
    LONG_SAMPLES,
)
