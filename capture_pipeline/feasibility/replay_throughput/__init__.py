"""Benchmark of replay: messages a second and memory."""
