"""The server process and its control interface."""
