"""What keeps the instance itself healthy: dead runs are ended, old runs and quarantined files removed. No market data is made here."""
