"""Faults by script: rules, and which requests they match."""
