"""The HTTP protocol of the sandbox and its log of requests."""
