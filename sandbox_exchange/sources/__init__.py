"""Sources of market data: synthetic, recorded, replayed."""
