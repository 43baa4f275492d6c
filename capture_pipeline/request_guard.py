"""ASGI middleware for services without a login: only their own pages and programs on the machine may use them.

A server on loopback is reachable by every page that a browser on the same machine shows. Such a page can send forms, scripts and
WebSocket handshakes to it (cross-site request forgery), and a page whose name resolves to 127.0.0.1 is even allowed to read the
answers (DNS rebinding). A browser always names the page's site in `Origin` or `Sec-Fetch-Site` and the requested name in `Host`;
the guard refuses a request when one of them is foreign.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
Check = Callable[[Scope, Headers], str]
"""A further rule of a service: the reason to refuse a request, or an empty text."""


class RequestGuard:
    """Middleware that answers foreign requests with 403 and does not pass them on."""

    def __init__(
        self, app: ASGIApp, hosts: Collection[str] = LOOPBACK_NAMES, check: Check | None = None
    ) -> None:
        """Guard `app`.

        Args:
            app: The service.
            hosts: Names in `Host` that are accepted, without a port.
            check: A further rule, applied to requests that pass the first ones.
        """
        self._app, self._hosts, self._check = app, frozenset(hosts), check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        reason = self._reason(headers) or (self._check(scope, headers) if self._check else "")
        if not reason:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse(f"Refused: {reason}.\n", status_code=403)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": reason})

    def _reason(self, headers: Headers) -> str:
        """The reason to refuse a request; empty if it is the service's own."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _name_of(hosts[0]) not in self._hosts:
            return "the Host header is not a name of this server"
        for origin in headers.getlist("origin"):
            if urlsplit(origin).netloc != hosts[0]:
                return "the Origin header names another site"
        if (
            headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}
            and headers.get("sec-fetch-mode") != "navigate"
        ):
            return "the request comes from a page of another site"
        return ""


def _name_of(host: str) -> str:
    """The name in a Host header in lower case; empty if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
