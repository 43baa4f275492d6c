"""Worker: one client of a WebSocket, with the recorder's frame parser or the public interface.

.venv/bin/python benchmarks/worker_transport.py parser|library benchmarks/out/frames_500_100000.bin 100000
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from stopwatch import serve
from websockets.asyncio.client import connect

from capture_pipeline.recorder.connections.sockets import MAX_MESSAGE_BYTES, Connect, ParsingSocket


async def receive_by_parser(url: str, expected: int) -> int:
    """Receive through the recorder's frame parser; return the number of messages."""
    count = 0
    complete = asyncio.Event()

    def on_message(_: bytes) -> None:
        nonlocal count
        count += 1
        if count == expected:
            complete.set()

    def feed(parse: Callable[[bytes], int], data: bytes) -> None:
        parse(data)

    async with Connect(
        url,
        create_connection=ParsingSocket,
        compression=None,
        max_size=MAX_MESSAGE_BYTES,
        ping_interval=None,
        proxy=None,
    ) as socket:
        if not isinstance(socket, ParsingSocket):
            raise TypeError(type(socket))
        socket.begin(on_message, feed, lambda: None)
        await complete.wait()
    return count


async def receive_by_library(url: str, expected: int) -> int:
    """Receive by `recv`; return the number of messages."""
    async with connect(
        url, compression=None, max_size=MAX_MESSAGE_BYTES, ping_interval=None, proxy=None
    ) as socket:
        for _ in range(expected):
            await socket.recv(decode=False)
    return expected


def work(_: int) -> int:
    """Start a server of prepared frames and receive all of them."""
    receive = receive_by_parser if sys.argv[1] == "parser" else receive_by_library
    command = [sys.executable, str(Path(__file__).with_name("frames_server.py")), sys.argv[2], "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        if server.stdout is None:
            raise RuntimeError("the server has no output")
        url = f"ws://127.0.0.1:{int(server.stdout.readline())}/stream"
        return asyncio.run(receive(url, int(sys.argv[3])))


if __name__ == "__main__":
    serve(work)
