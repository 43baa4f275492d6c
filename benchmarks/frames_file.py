"""What a stream of many symbols sends, prepared as WebSocket frames: deterministic, in the exchange's layout, as large as real messages.

    .venv/bin/python benchmarks/frames_file.py benchmarks/out/frames_100.bin 100 400000

72.6 % trades, the rest diffs of 44 levels, as in recordings of BTCUSDT and ETHUSDT; each symbol has ids of its own, without a hole.
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


def symbols_of(count: int) -> list[str]:
    """Names, in capitals."""
    return [f"B{number:03d}USDT" for number in range(count)]


def frame(payload: bytes) -> bytes:
    """A text frame as a server sends it."""
    size = len(payload)
    head = struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size)
    return head + payload


def write(path: Path, symbols: int, messages: int) -> int:
    """Write them, one frame after the other; returns the bytes of the messages without their frames."""
    names = [name.encode() for name in symbols_of(symbols)]
    trades, updates = [FIRST_TRADE - 1] * symbols, [FIRST_UPDATE - 1] * symbols
    plain = made = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while made < messages:
            random = np.random.default_rng(made + 11)
            count = min(_CHUNK, messages - made)
            # The first messages are a diff of each symbol, so that every book can begin.
            which = random.integers(0, symbols, count).tolist()
            is_trade = (random.random(count) < 0.726).tolist()
            if not made:
                which[:symbols], is_trade[:symbols] = range(symbols), [False] * symbols
            frames: list[bytes] = []
            for place, is_one in zip(which, is_trade, strict=True):
                name, event, mid = names[place], _START_MS + (made + len(frames)) // 4, _MID + place * _SPREAD
                if is_one:
                    trades[place] += 1
                    message = trade(name, event, trades[place], mid, random)
                else:
                    first, updates[place] = updates[place] + 1, updates[place] + int(random.integers(1, 60))
                    message = diff(name, event, (first, updates[place]), mid, random)
                plain += len(message)
                frames.append(frame(message))
            made += count
            file.write(b"".join(frames))
    return plain


if __name__ == "__main__":
    TARGET, SYMBOLS, COUNT = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    PLAIN = write(TARGET, SYMBOLS, COUNT)
    print(f"{TARGET}: {COUNT:,} messages of {SYMBOLS} symbols, {PLAIN / COUNT:.0f} bytes on average")
