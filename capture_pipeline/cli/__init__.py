"""The command line, `capture …`: arguments in, domain called, text or JSON out. Decides nothing of its own."""
