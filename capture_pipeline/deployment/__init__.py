"""A deployment: the settings, the lake and the exchange clients that domain functions take as arguments."""
