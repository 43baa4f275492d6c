"""Import of recordings that other tools made."""
