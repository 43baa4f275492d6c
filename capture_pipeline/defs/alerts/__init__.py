"""Dagster's side of alerts: events of the instance become alerts, and what waits is delivered."""
