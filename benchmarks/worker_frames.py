"""Ours: the compiled reader with lines of a recording in memory.

.venv/bin/python benchmarks/worker_frames.py spot|um|um-older
"""

from __future__ import annotations

import sys

from golden_file import Form, generate_lines
from stopwatch import serve

from capture_pipeline.binance.streams.columns import PADDING
from capture_pipeline.binance.streams.decoders import CompiledDecoder

MESSAGES = 100_000
"""Number of messages."""
_BLOCK_MESSAGES = 2_000


def main() -> None:
    """Run the stopwatch; the number is not used."""
    form, decoder = Form(sys.argv[1]), CompiledDecoder("made")
    blocks: list[bytes] = []

    def prepare() -> None:
        if blocks:
            return
        for chunk in generate_lines(MESSAGES, form):
            blocks.extend(
                b"".join(chunk[start : start + _BLOCK_MESSAGES]) + bytes(PADDING)
                for start in range(0, len(chunk), _BLOCK_MESSAGES)
            )
        work(0)

    def work(_: int) -> int:
        rows = fallback_count = 0
        for block in blocks:
            parsed = decoder.decode(block)
            rows += parsed.columns.trades.shape[1] + parsed.columns.levels.shape[1]
            fallback_count += parsed.by_fallback
        if fallback_count > len(decoder.streams):
            raise RuntimeError(f"{fallback_count} lines needed the reference decoder")
        return rows

    serve(work, prepare=prepare)


if __name__ == "__main__":
    main()
