"""Benchmark of the disk: recordings and Parquet written and read."""
