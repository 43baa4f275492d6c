"""Peer: cryptofeed's connection with its raw-file callback, which is how it keeps what an exchange sends: plain text with a time before it.

One connection; what cryptofeed would do with the messages beside keeping them is left out, in its favour. It takes TLS addresses only, so
that the address is set behind its back; the loop is uvloop, as its feed handler sets it.
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
    """Serve; each line of input is the port of a server that waits for one connection."""
    messages, target = int(sys.argv[1]), Path(sys.argv[2]) / "cryptofeed"
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

    def clear() -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)

    serve(lambda port: asyncio.run(_recorded(port, messages, target)), before=clear)


async def _recorded(port: int, messages: int, target: Path) -> int:
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
