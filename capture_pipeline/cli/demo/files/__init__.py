"""Files of `capture demo`: settings, market of the sandbox exchange, and outages of the deployment."""
