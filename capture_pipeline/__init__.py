"""Market data with a list of every gap: verified klines and recorded sessions, as a Dagster project."""
