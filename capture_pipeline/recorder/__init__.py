"""A live stream made durable: connections, merge, journal, session. Imports neither Dagster nor polars, so that it outlives both."""
