"""The WebSocket streams: names, messages and their parsers."""
