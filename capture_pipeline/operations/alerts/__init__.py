"""Alerts: each condition is reported once to each channel, and sent again until the channel accepts it."""
