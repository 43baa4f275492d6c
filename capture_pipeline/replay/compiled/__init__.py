"""The order book in compiled code."""
