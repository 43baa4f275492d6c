"""The exchange's language: intervals, URLs, archive and REST protocols, klines. Opens no file, imports no Dagster."""
