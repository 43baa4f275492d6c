"""Klines of archive files and of REST answers: from bytes to a frame with exact values."""
