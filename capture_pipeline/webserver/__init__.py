"""Dagster's webserver behind a request guard: `python -m capture_pipeline.webserver`."""
