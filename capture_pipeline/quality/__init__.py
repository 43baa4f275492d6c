"""Pure functions over ranges and frames: order, continuity, coverage, outages. No file, no network, no clock."""
