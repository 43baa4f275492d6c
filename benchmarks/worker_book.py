"""Ours: the compiled book on level updates in memory, its best prices read after each message.

.venv/bin/python benchmarks/worker_book.py book|scan benchmarks/out/book_8000000.npz
"""

from __future__ import annotations

import sys

import numpy as np
from stopwatch import serve

from capture_pipeline.replay.compiled._jit import allocating_kernel
from capture_pipeline.replay.compiled.book import LevelBatch, TickBook
from capture_pipeline.replay.continuity import update_checksum
from capture_pipeline.replay.engine import SEED
from capture_pipeline.replay.messages import Ints


def main() -> None:
    """Serve; the number of a line is how many messages, 0 for all."""
    what, path = sys.argv[1:]
    with np.load(path) as file:
        run = LevelBatch(file["bounds"], file["prices"], file["lots"])

    def work(messages: int) -> int:
        if what == "scan":
            return int(_scanned(run.bounds, run.prices, run.lots))
        end = messages or len(run)
        bests = TickBook().apply(run, 0, end)
        return int(update_checksum(bests[[0, 2]], 1, end, SEED)) >> 1

    serve(work)


@allocating_kernel  # type: ignore[untyped-decorator, unused-ignore]
def _scanned(bounds: Ints, prices: Ints, lots: Ints) -> int:
    """Look at every level once and do nothing with it: what any replay takes at least."""
    found = 0
    for message in range(bounds.shape[1]):
        for level in range(bounds[0, message], bounds[2, message]):
            found += prices[level] ^ lots[level]
    return found & 0x7FFFFFFF


if __name__ == "__main__":
    main()
