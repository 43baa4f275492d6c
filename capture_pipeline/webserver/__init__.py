"""The webserver of Dagster behind a request guard: `python -m capture_pipeline.webserver`."""
