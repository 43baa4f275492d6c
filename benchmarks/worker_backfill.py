"""Ours, the whole of it: the package's backfill of many symbol-months, with the exchange's answers read from files.

Beside what `worker_ours.py` does this looks into each zip when it arrives, keeps it in the raw folder and computes the gap ledger.
"""

from __future__ import annotations

import shutil

from inputs import workspace_of
from offline import NOW_US, file_of, from_folder, partition_of
from stopwatch import folders, serve

from capture_pipeline.klines.backfill import backfill


def main() -> None:
    """Serve."""
    zips, into = folders()
    partitions = [partition_of(file_of(path)) for path in zips]
    workspace = workspace_of(into, from_folder(zips[0].parent))

    def work(number: int) -> int:
        rows = 0
        for outcome in backfill(workspace, partitions[:number], NOW_US, use_rest=False):
            if outcome.error or not outcome.bars:
                raise ValueError(str(outcome.error))
            rows += outcome.bars.rows
        return rows

    serve(work, before=lambda: shutil.rmtree(into))


if __name__ == "__main__":
    main()
