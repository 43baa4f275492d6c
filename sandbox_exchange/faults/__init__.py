"""Scripted faults: rules and their selection for requests."""
