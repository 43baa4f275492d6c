"""Import of recordings of other tools."""
