"""Alerts: what to report, to whom, once, and until it arrived. Knows no Dagster."""
