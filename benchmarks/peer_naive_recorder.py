"""Peer: a simple recorder with one connection and gzip, without merge, checks of ids, books and fsync."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import time
from pathlib import Path

import websockets
from stopwatch import serve


def main() -> None:
    """Run the stopwatch; each input line is the port of a server that waits for one connection."""
    messages, target = int(sys.argv[1]), Path(sys.argv[2]) / "naive.jsonl.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    serve(lambda port: asyncio.run(_record(port, messages, target)))


async def _record(port: int, messages: int, target: Path) -> int:
    count = 0
    async with websockets.connect(
        f"ws://127.0.0.1:{port}/stream?streams=all", compression=None, ping_interval=None
    ) as socket:
        with gzip.open(target, "wt") as file:
            async for text in socket:
                message = json.loads(text)
                message["capture_ns"] = time.time_ns()
                file.write(json.dumps(message) + "\n")
                count += 1
                if count == messages:
                    break
    return count


if __name__ == "__main__":
    main()
