"""Files of a growing session: journal, event log, recovery after a crash, completion."""
