"""What is done with recorded sessions: validation, diagnosis, import, typed tables, comparison, proof against the archive."""
