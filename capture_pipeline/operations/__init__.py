"""Functions for whoever operates a deployment."""
