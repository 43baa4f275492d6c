"""Ours: the compiled book with level updates in memory; best prices are read after each message.

.venv/bin/python benchmarks/worker_book.py book|scan benchmarks/out/book_8000000.npz
"""

from __future__ import annotations

import sys

import numpy as np
from stopwatch import serve

from capture_pipeline.orderbook.compiled._jit import allocating_kernel
from capture_pipeline.orderbook.compiled.book import LevelBatch, TickBook
from capture_pipeline.replay.continuity import update_checksum
from capture_pipeline.replay.engine import SEED
from capture_pipeline.replay.messages import Ints


def main() -> None:
    """Run the stopwatch; the number is the number of messages, 0 for all."""
    task, path = sys.argv[1:]
    with np.load(path) as file:
        run = LevelBatch(file["bounds"], file["prices"], file["lots"])

    def work(messages: int) -> int:
        if task == "scan":
            return int(_scan(run.bounds, run.prices, run.lots))
        end = messages or len(run)
        bests = TickBook().apply(run, 0, end)
        return int(update_checksum(bests[[0, 2]], 1, end, SEED)) >> 1

    serve(work)


@allocating_kernel  # type: ignore[untyped-decorator, unused-ignore]
def _scan(bounds: Ints, prices: Ints, lots: Ints) -> int:
    """Read every level once, which is the minimum work of a replay."""
    checksum = 0
    for message in range(bounds.shape[1]):
        for level in range(bounds[0, message], bounds[2, message]):
            checksum += prices[level] ^ lots[level]
    return checksum & 0x7FFFFFFF


if __name__ == "__main__":
    main()
