"""HTTP protocol of uvicorn that gives its transport to the application, which can end the connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any, cast

from starlette.types import Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

TRANSPORT = "sandbox.transport"
"""Key of the ASGI scope that contains the transport."""
LINGER_0 = struct.pack("ii", 1, 0)


class OpenProtocol(H11Protocol):
    """HTTP protocol that adds its transport to the scope of every request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wrap the application for this connection."""
        super().connection_made(cast("asyncio.Transport", transport))
        inner = self.app

        async def with_transport(scope: Any, receive: Any, send: Any) -> None:
            scope[TRANSPORT] = transport
            await inner(scope, receive, send)

        self.app = with_transport


async def reset(scope: Scope, receive: Receive) -> None:
    """Reset the connection: the client receives RST instead of a response."""
    transport: asyncio.Transport = scope[TRANSPORT]
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    transport.abort()
    await _wait_for_disconnect(receive)


async def cut(scope: Scope, receive: Receive) -> None:
    """Send the buffered bytes and close the connection in the middle of a response."""
    transport: asyncio.Transport = scope[TRANSPORT]
    transport.close()
    await _wait_for_disconnect(receive)


async def _wait_for_disconnect(receive: Receive) -> None:
    """Wait until uvicorn has noticed the disconnect; otherwise it logs an unfinished response as an error."""
    while (await receive())["type"] != "http.disconnect":
        pass
