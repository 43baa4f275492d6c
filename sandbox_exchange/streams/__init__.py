"""The WebSocket streams of the sandbox."""
