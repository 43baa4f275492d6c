"""Download of archive files and REST answers into the lake."""
