"""One deployment: settings, lake and clients of the exchange, which functions of the domain take."""
