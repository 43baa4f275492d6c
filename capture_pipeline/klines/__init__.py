"""Operations on klines: download, fill from REST, merge, find gaps, report. Nothing here imports Dagster."""
