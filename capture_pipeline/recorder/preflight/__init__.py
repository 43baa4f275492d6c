"""Checks before a recording, and a record of what the exchange answered."""
