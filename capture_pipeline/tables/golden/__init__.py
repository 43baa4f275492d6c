"""Tables of recorded sessions, one module for each, and of the books that a replay writes."""
