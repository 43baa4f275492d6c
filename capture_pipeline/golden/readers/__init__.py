"""Readers of recordings: members, lines, blocks."""
