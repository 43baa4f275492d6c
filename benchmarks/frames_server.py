"""Server that sends prepared frames over WebSockets on loopback as fast as the client reads them.

    .venv/bin/python benchmarks/frames_server.py benchmarks/out/frames_100.bin 2

The server prints its port, waits for the given number of clients, sends the whole file to each of them and
waits for their close frames. The kernel copies the file to the socket, so that the server needs little CPU
time.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import sys
import threading
from pathlib import Path

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE = b"\x88\x02\x03\xe8"


def main() -> None:
    """Serve the file to all clients."""
    path, clients = Path(sys.argv[1]), int(sys.argv[2])
    all_connected = threading.Barrier(clients)
    with socket.create_server(("127.0.0.1", 0)) as server:
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        threads = [
            threading.Thread(target=_serve, args=(server.accept()[0], path, all_connected))
            for _ in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _serve(client: socket.socket, path: Path, all_connected: threading.Barrier) -> None:
    with client, path.open("rb") as file:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(_accept_response(_read_request(client)))
        all_connected.wait()
        try:
            client.sendfile(file)
            if client.recv(4096):
                client.sendall(_CLOSE)
        except ConnectionError:
            return


def _read_request(client: socket.socket) -> bytes:
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += client.recv(65536)
    return request


def _accept_response(request: bytes) -> bytes:
    lines = [line.partition(b":") for line in request.split(b"\r\n")]
    key = next(value.strip() for name, _, value in lines if name.lower() == b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest())
    head = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
    )
    return head + accept + b"\r\n\r\n"


if __name__ == "__main__":
    main()
