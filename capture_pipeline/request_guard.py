"""ASGI middleware that protects services without a login from requests of other web sites.

Every page that a browser on this machine shows can reach a server on loopback. A page of another site can
send forms and open WebSockets there (cross-site request forgery). A page whose host name resolves to
127.0.0.1 can also read the answers (DNS rebinding). A browser sends the site of the page in `Origin` or
`Sec-Fetch-Site`, and the requested host name in `Host`. The guard refuses a request if one of these headers
names another site or host.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
Check = Callable[[Scope, Headers], str]
"""A further rule of a service. It returns the reason to refuse a request, or an empty text."""


class RequestGuard:
    """Middleware that answers foreign requests with 403 and does not pass them on."""

    def __init__(
        self, app: ASGIApp, hosts: Collection[str] = LOOPBACK_NAMES, check: Check | None = None
    ) -> None:
        """Wrap a service.

        Args:
            app: The service.
            hosts: Accepted names in the `Host` header, without a port.
            check: A further rule for requests that these headers do not exclude.
        """
        self._app, self._hosts, self._check = app, frozenset(hosts), check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward a request to the service, or refuse it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        reason = self._find_reason(headers) or (self._check(scope, headers) if self._check else "")
        if not reason:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse(f"Refused: {reason}.\n", status_code=403)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": reason})

    def _find_reason(self, headers: Headers) -> str:
        """Return the reason to refuse a request, or an empty text."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _host_name(hosts[0]) not in self._hosts:
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


def _host_name(host: str) -> str:
    """Return the name in a Host header in lower case, or an empty text if the header is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
