"""Conversion of a recording to typed Parquet tables."""
