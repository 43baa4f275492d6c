"""Recorder of live streams: connections, merger, journal, session.

The package imports neither Dagster nor polars, so that a recording does not depend on them.
"""
