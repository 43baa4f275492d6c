"""Measurement of timestamps: which one orders the events of a recording."""
