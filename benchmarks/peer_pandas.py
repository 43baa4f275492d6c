"""Peer: simple conversion with pandas to floats, without checksums, checks, conversion of times and fsync."""

from __future__ import annotations

import pandas as pd
from stopwatch import parse_folders, serve

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
    """Run the stopwatch; the number is the number of zips."""
    zips, into = parse_folders()

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
