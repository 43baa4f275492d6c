"""Gates and coverage of klines, and the ranges and gaps that they are computed from."""
