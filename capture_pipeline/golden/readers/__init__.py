"""Readers of recordings: gzip members, lines, and blocks for the compiled parser."""
