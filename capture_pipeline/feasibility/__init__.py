"""Can the market be rebuilt from its deltas: what is measured of speed, memory, precision, time and disk, and the verdict on it."""
