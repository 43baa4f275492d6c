"""Input of the golden-sample benchmark: a deterministic recording with any number of messages.

    .venv/bin/python benchmarks/golden_file.py benchmarks/out/golden.jsonl.gz 1000000

A million messages are 726 k trades and 274 k diffs of 44 levels: 12 M levels, about 580 MB plain, in gzip
members of 500 lines. Distances of the levels from the best price are those of an ETHUSDT recording of August
2024, so that prices repeat as often as in the recording.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import numpy as np
from isal import igzip

from capture_pipeline.feasibility.replay_throughput.synthetic_events import DISTANCES, SHARES

_START_NS = 1_785_760_200_000_000_000
_CHUNK = 20_000
_LEVELS = 44
_SYMBOL = b"BTCUSDT"


class Form(StrEnum):
    """Form of the messages: spot, or USD-M futures since or before mid-2026."""

    SPOT = "spot"
    UM = "um"
    UM_OLDER = "um-older"


def generate_lines(messages: int, form: Form = Form.SPOT) -> Iterator[list[bytes]]:
    """Generate the lines of a recording in lists of up to 20,000 lines."""
    generated, trade_id, update_id, capture = 0, 1_520_538_925, 35_346_513_499, _START_NS
    last = 6_417_500
    while generated < messages:
        random = np.random.default_rng(generated + 7)
        count = min(_CHUNK, messages - generated)
        is_trade = random.random(count) < 0.726
        steps = random.integers(100_000, 50_000_000, count)
        walk = last + np.cumsum(random.integers(-40, 41, count))
        last = int(walk[-1])
        chunk: list[bytes] = []
        for index in range(count):
            capture += int(steps[index])
            event, mid = capture // 1_000_000 - 4, int(walk[index])
            if is_trade[index]:
                trade_id += 1
                message = trade(_SYMBOL, event, trade_id, mid, random)
            else:
                first = update_id + 1
                update_id += int(random.integers(1, 60))
                message = diff(_SYMBOL, event, (first, update_id), mid, random)
            chunk.append(_line(capture, message if form is Form.SPOT else _convert_to_futures(message, form)))
        generated += count
        yield chunk


def trade(symbol: bytes, event: int, number: int, mid: int, random: np.random.Generator) -> bytes:
    """Build a trade in the envelope of the combined stream."""
    quantity, maker = int(random.integers(1, 400_000)), b"true" if random.random() < 0.5 else b"false"
    return (
        b'{"stream":"%b@trade","data":{"e":"trade","E":%d,"s":"%b","t":%d,'
        b'"p":"%d.%02d000000","q":"%d.%05d000","T":%d,"m":%b,"M":true}}'
    ) % (
        symbol.lower(),
        event,
        symbol,
        number,
        mid // 100,
        mid % 100,
        quantity // 100_000,
        quantity % 100_000,
        event - 1,
        maker,
    )


def diff(symbol: bytes, event: int, ids: tuple[int, int], mid: int, random: np.random.Generator) -> bytes:
    """Build a diff in the envelope of the combined stream."""
    distances = np.interp(random.random(_LEVELS), SHARES, DISTANCES).astype(np.int64) + 1
    quantities = random.integers(0, 900_000, _LEVELS) * (random.random(_LEVELS) < 0.72)
    half = _LEVELS // 2
    prices = [mid - distance for distance in distances[:half].tolist()] + [
        mid + distance for distance in distances[half:].tolist()
    ]
    levels = [
        b'["%d.%02d000000","%d.%05d000"]'
        % (price // 100, price % 100, quantity // 100_000, quantity % 100_000)
        for price, quantity in zip(prices, quantities.tolist(), strict=True)
    ]
    return (
        b'{"stream":"%b@depth@100ms","data":{"e":"depthUpdate","E":%d,"s":"%b",'
        b'"U":%d,"u":%d,"b":[%b],"a":[%b]}}'
        % (
            symbol.lower(),
            event,
            symbol,
            *ids,
            b",".join(levels[:half]),
            b",".join(levels[half:]),
        )
    )


def _convert_to_futures(message: bytes, form: Form) -> bytes:
    """Convert a spot message to the fields and decimals of futures."""
    message = re.sub(rb'"(\d+\.\d\d)0{6}"', rb'"\1"', message)
    message = re.sub(rb'"(\d+\.\d{3})\d{5}"', rb'"\1"', message)
    end = b"" if form is Form.UM_OLDER else b',"st":1'
    if b"depthUpdate" not in message:
        message = re.sub(
            rb'("E":\d+)(.*),"T":(\d+),"m":(\w+),"M":true', rb'\1,"T":\3\2,"X":"MARKET","m":\4', message
        )
        return message[:-2] + end + b"}}"
    pair = b"" if form is Form.UM_OLDER else b'"ps":"%b",' % _SYMBOL
    message = re.sub(rb'"E":(\d+),', rb'"E":\1,"T":\1,', message)
    message = re.sub(
        rb'"U":(\d+),"u":(\d+)', lambda ids: pair + ids[0] + b',"pu":%d' % (int(ids[1]) - 1), message
    )
    return message[:-2] + end + b"}}"


def _line(capture: int, message: bytes) -> bytes:
    return b'{"capture_ns":%d,%b\n' % (capture, message[1:])


def write_recording(path: Path, messages: int) -> int:
    """Write a recording that starts with a snapshot; return its uncompressed bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain_bytes = 0
    with path.open("wb") as file:
        for number, chunk in enumerate(generate_lines(messages)):
            if number == 0:
                chunk.insert(
                    0,
                    b'{"capture_ns":%d,"stream":"btcusdt@depthSnapshot","data":{"lastUpdateId":35346513499,'
                    b'"bids":[["64174.00000000","1.00000000"]],"asks":[["64176.00000000","1.00000000"]]}}\n'
                    % _START_NS,
                )
            for start in range(0, len(chunk), 500):
                member = b"".join(chunk[start : start + 500])
                plain_bytes += len(member)
                file.write(igzip.compress(member, 2))
    return plain_bytes


if __name__ == "__main__":
    TARGET, COUNT = Path(sys.argv[1]), int(sys.argv[2])
    PLAIN = write_recording(TARGET, COUNT)
    print(f"{TARGET}: {COUNT:,} messages, {PLAIN:,} bytes plain, {TARGET.stat().st_size:,} compressed")
