"""Dagster definitions of feasibility: assets of benchmarks, reports and the verdict; checks of criteria."""
