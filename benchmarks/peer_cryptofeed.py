"""Peer: connection of cryptofeed with its raw-file callback, which writes messages as plain text with a time.

The peer has one connection and does not parse messages, which is faster than cryptofeed in use. cryptofeed
accepts TLS addresses only, so that the address is replaced after the creation. The event loop is uvloop, as
in its feed handler.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import uvloop
from cryptofeed.connection import Connection, WebsocketEndpoint, WSAsyncConn
from cryptofeed.raw_data_collection import AsyncFileCallback
from stopwatch import serve


def main() -> None:
    """Run the stopwatch; each input line is the port of a server that waits for one connection."""
    messages, target = int(sys.argv[1]), Path(sys.argv[2]) / "cryptofeed"
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

    def clear() -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)

    serve(lambda port: asyncio.run(_record(port, messages, target)), prepare=clear)


async def _record(port: int, messages: int, target: Path) -> int:
    callback = Connection.raw_data_callback = AsyncFileCallback(str(target))
    options = {**(WebsocketEndpoint("wss://127.0.0.1").options or {}), "ping_interval": None}
    socket = WSAsyncConn("wss://127.0.0.1", "bench", **options)
    socket.address = f"ws://127.0.0.1:{port}/stream?streams=all"
    count = 0
    async with socket.connect() as connection:
        async for _ in connection.read():
            count += 1
            if count == messages:
                break
    callback.stop()
    return count


if __name__ == "__main__":
    main()
