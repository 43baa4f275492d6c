"""WebSocket connections: transport, renewal, silence, limits of the address."""
