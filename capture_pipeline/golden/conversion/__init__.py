"""Conversion of a recording to Parquet tables."""
