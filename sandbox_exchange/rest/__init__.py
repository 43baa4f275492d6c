"""The REST interface of the sandbox."""
