"""A server on loopback that sends the bytes of a test at the speed of the test."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ACCEPTED = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
Handle = Callable[[socket.socket, str], None]


def answer(connection: socket.socket, body: object, status: str = "200 OK", **headers: str) -> None:
    """Send a complete answer of JSON or of bytes."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"Content-Length": str(len(content)), "Connection": "close", **headers}
    head = f"HTTP/1.1 {status}\r\n" + "".join(
        f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items()
    )
    connection.sendall(head.encode("utf-8", "surrogateescape") + b"\r\n" + content)


def close_web_socket(connection: socket.socket, request: str, code: int, reason: str) -> None:
    """Accept a WebSocket, then close it with a reason of at most 123 bytes."""
    key = next(
        line.partition(": ")[2]
        for line in request.splitlines()
        if line.lower().startswith("sec-websocket-key: ")
    )
    accept = base64.b64encode(hashlib.sha1(key.encode() + _ACCEPTED).digest()).decode()  # noqa: S324 - as RFC 6455 has it
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
        f"Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    payload = code.to_bytes(2, "big") + reason.encode()
    connection.sendall(head.encode() + bytes([0x88, len(payload)]) + payload)
    connection.recv(4096)  # its own close


@contextmanager
def server(handle: Handle) -> Iterator[str]:
    """Serve on loopback; yield the address.

    Args:
        handle: Function that gets a connection and the head of one request; its return closes the connection.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = []

    def take(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = connection.recv(1)
                if not byte:
                    return
                head += byte
            handle(connection, head.decode("latin-1"))

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                open_ones.append(connection)
                threading.Thread(target=take, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in open_ones:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join()
