"""A connection that can be reset or cut: uvicorn's HTTP protocol, which hands its transport to the application."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

from starlette.types import Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

TRANSPORT = "sandbox.transport"
"""Key of the scope under which the transport stands."""
LINGER_0 = struct.pack("ii", 1, 0)


class OpenProtocol(H11Protocol):
    """Puts its transport into the scope of every request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wrap the application for this connection."""
        super().connection_made(cast("asyncio.Transport", transport))
        inner = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            scope[TRANSPORT] = transport
            await inner(scope, receive, send)

        self.app = with_transport


async def reset(scope: Scope, receive: Receive) -> None:
    """Reset the connection: the client gets RST in place of an answer."""
    transport: asyncio.Transport = scope[TRANSPORT]
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    transport.abort()
    await _gone(receive)


async def cut(scope: Scope, receive: Receive) -> None:
    """Send what is buffered and close the connection in the middle of an answer."""
    transport: asyncio.Transport = scope[TRANSPORT]
    transport.close()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    """Wait until uvicorn knows of the end, so that it does not complain of an unfinished answer."""
    while (await receive())["type"] != "http.disconnect":
        pass
