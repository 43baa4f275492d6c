"""Ours: the compiled reader with lines of a recording in memory.

.venv/bin/python benchmarks/worker_frames.py spot|um|um-older
"""

from __future__ import annotations

import sys

import numpy as np
from golden_file import Form, generate_lines
from stopwatch import serve

from capture_pipeline.binance.streams._kernel import PADDING
from capture_pipeline.binance.streams.parser import Columns, StreamParser

MESSAGES = 100_000
"""Number of messages."""
_BLOCK_MESSAGES = 2_000


def main() -> None:
    """Run the stopwatch; the number is not used."""
    form, parser = Form(sys.argv[1]), StreamParser("made")
    blocks: list[np.ndarray[tuple[int], np.dtype[np.uint8]]] = []
    columns = Columns.of_size(0)

    def prepare() -> None:
        nonlocal columns
        if blocks:
            return
        for chunk in generate_lines(MESSAGES, form):
            for start in range(0, len(chunk), _BLOCK_MESSAGES):
                text = b"".join(chunk[start : start + _BLOCK_MESSAGES])
                blocks.append(np.frombuffer(text + bytes(PADDING), np.uint8))
        columns = Columns.of_size(max(block.size for block in blocks))
        work(0)

    def work(_: int) -> int:
        rows = fallback_count = 0
        for block in blocks:
            parsed = parser.parse(block, block.size - PADDING, columns)
            rows += parsed.columns.trades.shape[1] + parsed.columns.levels.shape[1]
            fallback_count += parsed.by_fallback
        if fallback_count > len(parser.streams):
            raise RuntimeError(f"{fallback_count} lines needed the reference decoder")
        return rows

    serve(work, prepare=prepare)


if __name__ == "__main__":
    main()
