"""Settings of the sandbox: models, periods, symbols and profiles."""
