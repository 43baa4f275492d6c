"""Peer: what a user of pandas writes today. No checksum, no check, floats, times as they come; nothing is synced to the disk."""

from __future__ import annotations

import pandas as pd
from stopwatch import folders, serve

COLUMNS = [
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
]


def main() -> None:
    """Serve."""
    zips, into = folders()

    def work(number: int) -> int:
        rows = 0
        for path in zips[:number]:
            frame = pd.read_csv(path, header=None, names=COLUMNS)
            frame.to_parquet(into / f"{path.stem}.parquet")
            rows += len(frame)
        return rows

    serve(work)


if __name__ == "__main__":
    main()
