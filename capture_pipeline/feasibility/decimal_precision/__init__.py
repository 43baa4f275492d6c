"""Benchmark of forms of decimal numbers: exactness, speed and memory."""
