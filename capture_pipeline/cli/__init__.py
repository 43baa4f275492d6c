"""The command line, `capture …`: parses arguments, calls the domain, and writes text or JSON."""
