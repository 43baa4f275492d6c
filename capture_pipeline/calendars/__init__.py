"""Known irregularities of the exchange: outages, suspensions, and periods of irregular klines."""
