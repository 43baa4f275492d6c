"""The public archive of the sandbox."""
