"""Request that opens a stream connection: its target, its endpoint and its refusal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

from websockets.datastructures import Headers
from websockets.http11 import Response

from capture_pipeline.binance.urls import Market
from sandbox_exchange.constants import FUTURES_HOST, StreamRoute


@dataclass(frozen=True)
class HandshakeRefusal:
    """Response that refuses a connection.

    Attributes:
        status: HTTP status.
        headers: Headers without those of the connection.
        body: Content.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    def build_response(self) -> Response:
        own = {"Content-Length": str(len(self.body)), "Connection": "close"}
        return Response(
            self.status, HTTPStatus(self.status).phrase, Headers({**self.headers, **own}), self.body
        )


@dataclass(frozen=True)
class StreamEndpoint:
    """Endpoint that a path names.

    Attributes:
        market: Market of the streams.
        route: Endpoint of the futures host; None if the endpoint serves all streams.
        path: Rest of the path, without a leading slash.
    """

    market: Market
    route: StreamRoute | None
    path: str


def refuse_handshake(status: int, text: str, headers: dict[str, str] | None = None) -> HandshakeRefusal:
    """Build a refusal with a JSON body.

    Args:
        status: HTTP status.
        text: Message of the error.
        headers: Additional headers; with them the error has the code of a limit.
    """
    body = json.dumps({"code": -1003 if headers else 0, "msg": text}).encode()
    return HandshakeRefusal(status, {"Content-Type": "application/json", **(headers or {})}, body)


def parse_endpoint(path: str) -> StreamEndpoint:
    """Parse a path; a futures path without a route has the public route."""
    head, _, rest = path.removeprefix("/").partition("/")
    if head != FUTURES_HOST:
        return StreamEndpoint(Market.SPOT, None, path.removeprefix("/"))
    route, _, inner = rest.partition("/")
    if route in set(StreamRoute):
        return StreamEndpoint(Market.UM, StreamRoute(route), inner)
    return StreamEndpoint(Market.UM, StreamRoute.PUBLIC, rest)


class ReplacedTarget(NamedTuple):
    """Target of a request, and the request with the target `/`."""

    target: str
    request: bytes


def replace_target(data: bytes) -> ReplacedTarget:
    """Replace the target of a request by `/`.

    A target with a thousand streams is too long for the library.
    """
    line, _, headers = data.partition(b"\r\n")
    method, target, version = line.split(b" ", 2)
    return ReplacedTarget(target.decode("latin-1"), b"%b / %b\r\n%b" % (method, version, headers))
