"""A raw TCP server that writes WebSocket frames itself, so that it can send invalid frames."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import json
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIN, TEXT, BINARY, CONT, CLOSE, PING, PONG = 0x80, 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_PATIENCE_S = 60.0
Behaviour = Callable[[socket.socket], None]
"""Sends bytes over an open WebSocket; an `OSError` ends it."""


def frame(kind: int, payload: bytes = b"", *, mask: bool = False, size: int | None = None) -> bytes:
    """Build a frame whose header states the length `size`."""
    size = len(payload) if size is None else size
    bit = 0x80 if mask else 0
    if size < 126:
        head = bytes([kind, bit | size])
    elif size < 1 << 16:
        head = bytes([kind, bit | 126]) + struct.pack(">H", size)
    else:
        head = bytes([kind, bit | 127]) + struct.pack(">Q", size)
    return head + (b"\0\0\0\0" if mask else b"") + payload


def trade(number: int) -> bytes:
    """Build a trade as the exchange sends it."""
    now_ms = time.time_ns() // 1_000_000
    data = {
        "e": "trade",
        "E": now_ms,
        "s": "BTCUSDT",
        "t": number,
        "p": "1.0",
        "q": "1.0",
        "T": now_ms,
        "m": False,
        "M": True,
    }
    return json.dumps({"stream": "btcusdt@trade", "data": data}, separators=(",", ":")).encode()


class HostileServer(socketserver.ThreadingTCPServer):
    """Server with one behaviour for each connection.

    Each connection sends one valid trade. The last behaviour is repeated.

    Attributes:
        behaviours: Behaviours by connection.
        answer: Additional lines of the answer to the handshake.
        trades: Ids of the sent trades.
        opened: Count of opened connections.
    """

    daemon_threads = allow_reuse_address = True

    def __init__(self, behaviours: list[Behaviour], answer: bytes = b"") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behaviours, self.answer = behaviours, answer
        self.trades = itertools.count(1)
        self.opened = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Root URL of the server."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next_behaviour(self) -> Behaviour:
        """Count a connection and return its behaviour."""
        with self.lock:
            self.opened += 1
            return self.behaviours[min(self.opened, len(self.behaviours)) - 1]


class _Handler(socketserver.BaseRequestHandler):
    server: HostileServer

    def handle(self) -> None:
        one: socket.socket = self.request
        one.settimeout(_PATIENCE_S)
        with contextlib.suppress(OSError):
            head = _head(one)
            key = re.search(rb"(?i)\r\nSec-WebSocket-Key: *(\S+)", head)
            if key is None:
                one.sendall(
                    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
            behaviour = self.server.next_behaviour()
            if not getattr(behaviour, "is_before_the_handshake", False):
                accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())  # noqa: S324 - RFC 6455
                lines = [
                    b"HTTP/1.1 101 Switching Protocols",
                    b"Upgrade: websocket",
                    b"Connection: Upgrade",
                    b"Sec-WebSocket-Accept: " + accept,
                ]
                one.sendall(b"\r\n".join(lines) + b"\r\n" + self.server.answer + b"\r\n")
                one.sendall(frame(FIN | TEXT, trade(next(self.server.trades))))
            behaviour(one)
            read_to_the_end(one)


def _head(one: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = one.recv(65_536)
        if not piece:
            raise OSError("closed")
        head += piece
    return head


def read_to_the_end(one: socket.socket) -> None:
    """Read until the peer has closed."""
    while one.recv(65_536):
        pass


def send_pieces(*pieces: bytes) -> Behaviour:
    """Send these bytes and wait for the end."""

    def behave(one: socket.socket) -> None:
        for piece in pieces:
            one.sendall(piece)

    return behave


def flood(piece: bytes, *, before: bytes = b"") -> Behaviour:
    """Send the same bytes forever and read nothing."""

    def behave(one: socket.socket) -> None:
        one.sendall(before)
        while True:
            one.sendall(piece)

    return behave


@contextmanager
def hostile_server(*behaviours: Behaviour, answer: bytes = b"") -> Iterator[HostileServer]:
    """Run the server until the end of the test."""
    with HostileServer(list(behaviours), answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
