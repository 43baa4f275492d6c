"""Layout, models, files and status of a recorded session, for all that write or read one."""
