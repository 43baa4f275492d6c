"""Input of the recorder benchmark: deterministic WebSocket frames of many symbols, as large as real messages.

    .venv/bin/python benchmarks/frames_file.py benchmarks/out/frames_100.bin 100 400000

72.6 % are trades and the rest diffs of 44 levels, as in recordings of BTCUSDT and ETHUSDT. The ids of each
symbol are contiguous.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
from golden_file import diff, trade

_START_MS = 1_785_760_200_000
_CHUNK = 20_000
_MID, _SPREAD = 6_417_500, 1_000_000
FIRST_TRADE, FIRST_UPDATE = 1_520_538_926, 35_346_513_500


def symbol_names(count: int) -> list[str]:
    """Return symbols in upper case."""
    return [f"B{number:03d}USDT" for number in range(count)]


def frame(payload: bytes) -> bytes:
    """Encode a text frame of a server."""
    size = len(payload)
    head = struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size)
    return head + payload


def write_frames(path: Path, symbols: int, messages: int) -> int:
    """Write the frames; return the bytes of the messages without frame headers."""
    names = [name.encode() for name in symbol_names(symbols)]
    trades, updates = [FIRST_TRADE - 1] * symbols, [FIRST_UPDATE - 1] * symbols
    plain_bytes = written = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while written < messages:
            random = np.random.default_rng(written + 11)
            count = min(_CHUNK, messages - written)
            # The first messages are a diff of each symbol, so that all books can start.
            which = random.integers(0, symbols, count).tolist()
            is_trade = (random.random(count) < 0.726).tolist()
            if not written:
                which[:symbols], is_trade[:symbols] = range(symbols), [False] * symbols
            frames: list[bytes] = []
            for symbol, is_trade_message in zip(which, is_trade, strict=True):
                name, event, mid = (
                    names[symbol],
                    _START_MS + (written + len(frames)) // 4,
                    _MID + symbol * _SPREAD,
                )
                if is_trade_message:
                    trades[symbol] += 1
                    message = trade(name, event, trades[symbol], mid, random)
                else:
                    first, updates[symbol] = (
                        updates[symbol] + 1,
                        updates[symbol] + int(random.integers(1, 60)),
                    )
                    message = diff(name, event, (first, updates[symbol]), mid, random)
                plain_bytes += len(message)
                frames.append(frame(message))
            written += count
            file.write(b"".join(frames))
    return plain_bytes


if __name__ == "__main__":
    TARGET, SYMBOLS, COUNT = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    PLAIN = write_frames(TARGET, SYMBOLS, COUNT)
    print(f"{TARGET}: {COUNT:,} messages of {SYMBOLS} symbols, {PLAIN / COUNT:.0f} bytes on average")
