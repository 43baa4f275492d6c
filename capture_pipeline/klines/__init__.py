"""The kline archive's operations: fetch, top up, merge, find gaps, report. Each takes a `Workspace` and partitions; none knows Dagster."""
