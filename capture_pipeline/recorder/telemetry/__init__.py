"""Status, rates, incidents and the account of messages of a growing session."""
