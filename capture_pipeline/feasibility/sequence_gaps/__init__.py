"""Measurement of the depth diffs that recordings lack."""
