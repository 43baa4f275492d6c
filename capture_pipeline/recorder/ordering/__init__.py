"""Order of messages: duplicates, ids, gaps, and the time of the capture."""
