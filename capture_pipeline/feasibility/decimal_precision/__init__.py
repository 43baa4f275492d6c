"""Benchmark of representations of decimal numbers: exactness and speed."""
