"""The synthetic market: trades, books, bars and their irregularities."""
