"""Feasibility of rebuilding the market from its diffs: benchmarks, reports on sessions, and the verdict."""
