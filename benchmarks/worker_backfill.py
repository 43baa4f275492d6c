"""Ours: the complete backfill of many symbol-months, with an archive that is read from files.

In addition to the work of `worker_ours.py`, the backfill inspects each zip, stores it in the raw folder and
computes the gap ledger.
"""

from __future__ import annotations

import shutil

from inputs import create_deployment
from offline import NOW_US, archive_file_of, partition_of, read_from_folder
from stopwatch import parse_folders, serve

from capture_pipeline.klines.backfill import backfill


def main() -> None:
    """Run the stopwatch; the number is the number of symbol-months."""
    zips, into = parse_folders()
    partitions = [partition_of(archive_file_of(path)) for path in zips]
    deployment = create_deployment(into, read_from_folder(zips[0].parent))

    def work(number: int) -> int:
        rows = 0
        for outcome in backfill(deployment, partitions[:number], NOW_US, use_rest=False):
            if outcome.error or not outcome.bars:
                raise ValueError(str(outcome.error))
            rows += outcome.bars.rows
        return rows

    serve(work, prepare=lambda: shutil.rmtree(into))


if __name__ == "__main__":
    main()
