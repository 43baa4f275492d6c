"""Replay of order books from recorded depth diffs: sources, the engine, checkpoints and samples."""
