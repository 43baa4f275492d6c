"""Layout, models, files and status of a session, for the packages that write or read one."""
