"""Peer: the way of the published downloader packages. They unpack each zip to a CSV beside it; pandas then reads the CSVs.

Like the packages it checks no checksum. Times become datetimes, as their users need them; decimals become floats.
"""

from __future__ import annotations

import zipfile

import pandas as pd
from peer_pandas import COLUMNS
from stopwatch import folders, serve

_FIRST_MICROSECOND = 10**14


def main() -> None:
    """Serve."""
    zips, into = folders()

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
