"""Dagster definitions for the operation of the instance: alerts, dead runs, and the removal of old data."""
