"""Dagster definitions of klines: assets, checks, jobs, schedules and sensors."""
