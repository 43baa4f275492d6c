"""Peer: book of nautilus_trader with the same level updates; best prices are read after each message.

    .venv-bench-books/bin/python benchmarks/peer_nautilus.py benchmarks/out/book_8000000.npz 5000

Deltas are created before the time starts, for a number of messages that fits into memory. The number of an
input line is the number of messages to replay.
"""

from __future__ import annotations

import sys

import numpy as np
from nautilus_trader.core import nautilus_pyo3 as pyo3
from stopwatch import serve

_MASK, _PRIME = (1 << 64) - 1, 0x100000001B3


def main() -> None:
    """Run the stopwatch; the number is the number of messages."""
    with np.load(sys.argv[1]) as file:
        bounds, prices, lots = file["bounds"], file["prices"], file["lots"]
    instrument = pyo3.InstrumentId.from_str("BTCUSDT.BINANCE")
    deltas = _create_deltas(instrument, bounds[:, : int(sys.argv[2])], prices, lots)

    def work(messages: int) -> int:
        book, checksum = pyo3.OrderBook(instrument, pyo3.BookType.L2_MBP), 0xCBF29CE484222325
        for number, message in enumerate(deltas[:messages]):
            for delta in message:
                book.apply_delta(delta)
            if not number:
                continue
            bid, ask = book.best_bid_price(), book.best_ask_price()
            for price in (bid, ask):
                checksum = (checksum ^ round(price.as_double() * 100)) * _PRIME & _MASK
        return checksum >> 1

    serve(work)


def _create_deltas(
    instrument: pyo3.InstrumentId, bounds: np.ndarray, prices: np.ndarray, lots: np.ndarray
) -> list[list[pyo3.OrderBookDelta]]:
    """Create the deltas of each message."""
    messages = []
    for message, (start, middle, end) in enumerate(bounds.T.tolist()):
        deltas = []
        for level in range(start, end):
            side = pyo3.OrderSide.BUY if level < middle else pyo3.OrderSide.SELL
            price, (whole, part) = int(prices[level]), divmod(int(lots[level]), 10**8)
            values = pyo3.Price.from_str(f"{price / 100:.2f}"), pyo3.Quantity.from_str(f"{whole}.{part:08d}")
            action = pyo3.BookAction.UPDATE if lots[level] else pyo3.BookAction.DELETE
            deltas.append(
                pyo3.OrderBookDelta(
                    instrument, action, pyo3.BookOrder(side, *values, price), 0, message, message, message
                )
            )
        messages.append(deltas)
    return messages


if __name__ == "__main__":
    main()
