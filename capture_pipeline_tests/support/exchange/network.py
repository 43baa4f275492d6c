"""A proxy, a certificate authority and a host of the exchange on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

HOST = "exchange.test"
VARIABLES = [f"{name}_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO", "WS", "WSS", "SOCKS")] + [
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
]
BODY = b'{"serverTime": 1}'
OPENSSL = shutil.which("openssl")


def clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the developer's own network."""
    for name in VARIABLES:
        for spelling in (name, name.lower()):
            monkeypatch.delenv(spelling, raising=False)


@dataclass(frozen=True)
class Authority:
    """A certificate authority with one signed certificate.

    Attributes:
        bundle: Certificate of the authority.
        signed: Certificate and key of a server for the given names.
    """

    bundle: Path
    signed: Path

    def context(self) -> ssl.SSLContext:
        """Return the TLS context of a server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.signed)
        return context


def make_authority(folder: Path, names: str = f"DNS:{HOST},DNS:*.binance.vision,IP:127.0.0.1") -> Authority:
    """Create an authority that signed one certificate for names."""
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    (folder / "names").write_text(f"subjectAltName={names}\n")
    commands = [
        [
            "req",
            "-x509",
            *new_key,
            "-keyout",
            "ca.key",
            "-out",
            "ca.pem",
            "-days",
            "2",
            "-subj",
            "/CN=authority",
        ],
        ["req", *new_key, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=server"],
        [
            "x509",
            "-req",
            "-in",
            "leaf.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "leaf.pem",
        ],
    ]
    for command in commands:
        subprocess.run([OPENSSL, *command], cwd=folder, check=True, capture_output=True, timeout=60)
    both = folder / "both.pem"
    both.write_text((folder / "leaf.key").read_text() + (folder / "leaf.pem").read_text())
    return Authority(folder / "ca.pem", both)


@contextmanager
def _served(begin: Callable[[], Coroutine[Any, Any, asyncio.AbstractServer]]) -> Iterator[int]:
    """Run a server on an event loop in a thread; yield the port of the server."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        server = asyncio.run_coroutine_threadsafe(begin(), loop).result(20)
        yield server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    finally:

        async def end() -> None:
            server.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(server.wait_closed(), 1)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

        asyncio.run_coroutine_threadsafe(end(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@dataclass
class Proxy:
    """An HTTP proxy: CONNECT, and absolute addresses for http.

    Attributes:
        targets: Real address of each `host:port`; another `host:port` is refused with 502.
        login: Required `user:password`.
        answer: Replaces every answer: a status, or bytes; empty bytes close the connection.
        seen: First line of each request.
        port: Port of the proxy.
    """

    targets: dict[str, int]
    login: str | None = None
    answer: int | bytes | None = None
    seen: list[str] = field(default_factory=list)
    port: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def close_tunnels(self) -> None:
        """Close every connection through the proxy."""
        for writer in list(self._open):
            writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._take(reader, writer)
        self._open.discard(writer)
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, _, headers = head.partition("\r\n")
        self.seen.append(line)
        refusal = self._refusal(headers)
        if refusal is not None:
            writer.write(refusal)
            await writer.drain()
            return
        method, target, _ = line.split(" ")
        authority = target if method == "CONNECT" else urlsplit(target).netloc
        if authority not in self.targets:
            writer.write(_status(502))
            await writer.drain()
            return
        above_reader, above_writer = await asyncio.open_connection("127.0.0.1", self.targets[authority])
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            parts = urlsplit(target)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            above_writer.write(
                f"{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}".encode("latin-1")
            )
        await asyncio.gather(_pump(reader, above_writer), _pump(above_reader, writer))

    def _refusal(self, headers: str) -> bytes | None:
        if isinstance(self.answer, bytes):
            return self.answer
        if self.answer is not None:
            return _status(self.answer)
        if self.login is None:
            return None
        token = base64.b64encode(self.login.encode()).decode()
        return None if f"proxy-authorization: basic {token}".lower() in headers.lower() else _status(407)


def _status(status: int) -> bytes:
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ).encode()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


@contextmanager
def proxy_to(
    targets: dict[str, int], *, tls: ssl.SSLContext | None = None, login: str | None = None
) -> Iterator[Proxy]:
    """Run a proxy."""
    made = Proxy(targets, login)
    with _served(lambda: asyncio.start_server(made._serve, "127.0.0.1", 0, ssl=tls)) as port:
        made.port = port
        yield made


@contextmanager
def exchange(tls: ssl.SSLContext | None) -> Iterator[int]:
    """Run a host that answers every GET with `BODY`; yield the port.

    The host sends one message into every stream.
    """

    def answer(connection: ServerConnection, request: Request) -> Response | None:
        if request.headers.get("Upgrade") is not None:
            return None
        response = connection.respond(HTTPStatus.OK, BODY.decode())
        response.headers["Connection"] = "close"
        return response

    async def talk(socket: ServerConnection) -> None:
        await socket.send(BODY.decode())
        await socket.wait_closed()

    async def begin() -> Any:
        return await serve(talk, "127.0.0.1", 0, ssl=tls, process_request=answer)

    with _served(begin) as port:
        yield port


@contextmanager
def tls_front(port: int, tls: ssl.SSLContext) -> Iterator[int]:
    """Run a TLS endpoint in front of a plain server; yield the port of the endpoint."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above_reader, above_writer = await asyncio.open_connection("127.0.0.1", port)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(_pump(reader, above_writer), _pump(above_reader, writer))

    with _served(lambda: asyncio.start_server(take, "127.0.0.1", 0, ssl=tls)) as front:
        yield front
