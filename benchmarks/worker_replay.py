"""Ours: replay of a session from its tables or its recording; best prices are read after each message.

.venv/bin/python benchmarks/worker_replay.py parquet|raw benchmarks/out/book_session_8000000
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from stopwatch import serve

from capture_pipeline.feasibility.replay_throughput.synthetic_session import SYMBOL, recording_of, tables_of
from capture_pipeline.replay.continuity import update_checksum
from capture_pipeline.replay.engine import SEED, Replay
from capture_pipeline.replay.messages import Ints, Messages, Source
from capture_pipeline.replay.sources.golden import GoldenSource
from capture_pipeline.replay.sources.raw import RawSource


class BestPriceChecksum:
    """Checksum of all best prices."""

    def __init__(self) -> None:
        self.value = SEED

    def __call__(self, messages: Messages, first: int, end: int, bests: Ints) -> None:
        """Add the best prices of some messages."""
        del messages
        self.value = np.uint64(update_checksum(bests[[0, 2], first:end], 0, end - first, self.value))


def main() -> None:
    """Run the stopwatch; the number is not used."""
    kind, folder = sys.argv[1], Path(sys.argv[2])

    def work(_: int) -> int:
        checksum = BestPriceChecksum()
        replay = Replay([checksum])
        for messages in _open_source(kind, folder):
            replay.process(messages)
        if replay.counts.gaps or replay.book.crossed:
            raise RuntimeError(f"{replay.counts}")
        return int(checksum.value) >> 1

    serve(work)


def _open_source(kind: str, folder: Path) -> Source:
    if kind == "parquet":
        return GoldenSource(tables_of(folder), SYMBOL)
    return RawSource(recording_of(folder))


if __name__ == "__main__":
    main()
