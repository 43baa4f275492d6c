"""Dagster definitions of golden samples: recorded sessions, which are partitions, and their tables."""
