"""Checks of a recording or a session."""
