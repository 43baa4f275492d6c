"""Order books replayed from their diffs: kernels, sources of diffs, states at any time, checkpoints."""
