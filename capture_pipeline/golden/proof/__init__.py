"""Comparison of a session with the trades and klines that the exchange published."""
