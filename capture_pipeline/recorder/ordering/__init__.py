"""Order of messages: duplicates, ids, gaps and capture times."""
