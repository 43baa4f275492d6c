"""Comparison of sessions of different regimes."""
