"""Settings of the definitions under test, and the time of their exchange."""

NOW = "2024-03-10T12:00:30Z"
SETTINGS = {
    "CAPTURE_SYMBOLS": "BTCUSDT,ETHUSDT",
    "CAPTURE_HISTORY_START": "2024-01-01",
    "CAPTURE_HISTORY_END": "2024-03-31",
}
