"""Input of the book benchmarks: an hour of level updates as plain arrays that every environment can read.

    .venv/bin/python benchmarks/book_events_file.py benchmarks/out/book_8000000.npz 8000000

The diffs are those of `capture_pipeline.feasibility.replay_throughput.synthetic_events`; the first message is
the snapshot.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from capture_pipeline.feasibility.replay_throughput.synthetic_events import generate_events


def write_events(path: Path, events: int) -> None:
    """Write `bounds` (3, messages), `prices` and `lots`; `bounds` contains indexes of the others."""
    parts = list(generate_events(events))
    offsets = np.cumsum([0, *(part.batch.prices.size for part in parts)])
    bounds = np.concatenate(
        [part.batch.bounds + offset for part, offset in zip(parts, offsets, strict=False)], axis=1
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        bounds=bounds,
        prices=np.concatenate([part.batch.prices for part in parts]),
        lots=np.concatenate([part.batch.lots for part in parts]),
    )


if __name__ == "__main__":
    write_events(Path(sys.argv[1]), int(sys.argv[2]))
