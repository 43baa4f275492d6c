"""The kline archive as Dagster objects: assets, their checks, jobs, schedules, sensors. The work itself is `capture_pipeline.klines`."""
