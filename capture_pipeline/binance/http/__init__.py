"""HTTP requests: sessions, proxies, deadlines, retries, refusals and pauses. Opens no file."""
