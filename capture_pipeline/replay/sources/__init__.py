"""Sources of a replay: sessions, raw files and recordings of other vendors."""
