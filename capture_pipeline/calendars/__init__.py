"""Known irregularities of the exchange: outages, suspensions, and stretches of irregular candles."""
