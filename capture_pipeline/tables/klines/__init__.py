"""Tables of klines, one module for each, and of their raw files and coverage."""
