"""Market data with its gaps recorded: a verified archive of exchange klines as a Dagster project."""
