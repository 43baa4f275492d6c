"""Functions for the operators of a deployment."""
