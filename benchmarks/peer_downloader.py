"""Peer: method of the published downloader packages, which extract each zip to a CSV that pandas reads.

Like the packages, the peer does not verify checksums. Times are converted to datetimes and decimals to
floats.
"""

from __future__ import annotations

import zipfile

import pandas as pd
from peer_pandas import COLUMNS
from stopwatch import parse_folders, serve

_FIRST_MICROSECOND = 10**14


def main() -> None:
    """Run the stopwatch; the number is the number of zips."""
    zips, into = parse_folders()

    def work(number: int) -> int:
        rows = 0
        for path in zips[:number]:
            with zipfile.ZipFile(path) as archive:
                archive.extractall(into)
            frame = pd.read_csv(into / f"{path.stem}.csv", header=None, names=COLUMNS)
            unit = "us" if frame["open_time"].iloc[0] >= _FIRST_MICROSECOND else "ms"
            for name in ("open_time", "close_time"):
                frame[name] = pd.to_datetime(frame[name], unit=unit, utc=True)
            frame.to_parquet(into / f"{path.stem}.parquet")
            rows += len(frame)
        return rows

    serve(work)


if __name__ == "__main__":
    main()
