"""ASGI middleware: log each request and inject faults that concern a whole response.

Control requests are not logged and have no faults.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import MutableMapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from capture_pipeline.request_guard import RequestGuard
from sandbox_exchange.archive.corrupt_zip import flip_bit, gzip_bomb
from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.faults.kinds import FaultStage
from sandbox_exchange.faults.matcher import FaultInjector, RequestInfo
from sandbox_exchange.faults.rules import FaultRule
from sandbox_exchange.http.protocol import cut, reset
from sandbox_exchange.http.request_log import RequestEntry, RequestLog, log_fault

CONTROL = "/_sandbox/"
_TICK_S = 0.05
_STATUS = "status_"
_HTML = (
    "<!DOCTYPE html><html><head><title>Attention Required!</title></head>"
    "<body>Please enable cookies.</body></html>"
)
_MESSAGES = {
    429: "Too many requests; current limit is 6000 request weight per 1 MINUTE.",
    418: "Way too many requests; IP banned.",
    403: "Forbidden by the web application firewall.",
    408: "Timeout waiting for response from backend server.",
    451: "Service unavailable from a restricted location according to 'b. Eligibility'.",
}


class FaultMiddleware:
    """ASGI application that wraps the sandbox."""

    def __init__(self, app: ASGIApp, faults: FaultInjector, log: RequestLog, clock: SandboxClock) -> None:
        self._app = app
        self._control = RequestGuard(app)
        self._faults = faults
        self._log = log
        self._clock = clock
        self.closing = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].startswith(CONTROL):
            await self._control(scope, receive, send)
            return
        entry = self._log.add(scope, self._clock.now_us())
        send = _record_response(send, entry)
        has_range = any(name == b"range" for name, _ in scope["headers"])
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        rule = self._faults.select(
            FaultStage.HTTP, RequestInfo(scope["method"], scope["path"], query, has_range)
        )
        log_fault(scope, rule)
        if rule is None:
            await self._app(scope, receive, send)
        elif (replacement := _replacement_response(rule)) is not None:
            await replacement(scope, receive, send)
        elif rule.fault == "timeout":
            await self._stall(scope, receive, rule)
        elif rule.fault == "reset":
            await reset(scope, receive)
        else:
            await self._send_altered(scope, receive, send, rule)

    async def _stall(self, scope: Scope, receive: Receive, rule: FaultRule) -> None:
        """Send nothing until the client disconnects, the time of the rule is over, or the server stops."""
        disconnect = asyncio.ensure_future(_wait_for_disconnect(receive))
        end = time.monotonic() + rule.number("stall_s", 3600)
        while not disconnect.done() and not self.closing and time.monotonic() < end:
            await asyncio.wait({disconnect}, timeout=_TICK_S)
        if not disconnect.done():
            disconnect.cancel()
            await cut(scope, receive)

    async def _send_altered(self, scope: Scope, receive: Receive, send: Send, rule: FaultRule) -> None:
        """Send the real response with the defect of a rule."""
        if rule.fault == "ignore_range":
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"range"]
        start, body = await _collect_response(self._app, scope, receive)
        headers = MutableHeaders(raw=start["headers"])
        if rule.fault == "wrong_etag_on_range":
            headers["ETag"] = '"00000000000000000000000000000000"'
            body = bytes(byte ^ 0x5A for byte in body)
        if rule.fault == "body_bit_flip" and body:
            body = flip_bit(body, min(int(len(body) * rule.number("at", 0.5)), len(body) - 1))
        await send(start)
        if rule.fault == "truncated_body":
            await send(
                {
                    "type": "http.response.body",
                    "body": body[: _truncated_length(len(body), rule)],
                    "more_body": True,
                }
            )
            await cut(scope, receive)
        elif rule.fault == "slow_body":
            await self._send_slowly(send, body, rule)
        else:
            await send({"type": "http.response.body", "body": body})

    async def _send_slowly(self, send: Send, body: bytes, rule: FaultRule) -> None:
        step = max(1, int(rule.number("bytes_per_s", 1024) * _TICK_S))
        for start in range(0, len(body), step):
            if self.closing:
                break
            await send({"type": "http.response.body", "body": body[start : start + step], "more_body": True})
            await asyncio.sleep(_TICK_S)
        await send({"type": "http.response.body", "body": b""})


def _replacement_response(rule: FaultRule) -> Response | None:
    """Build the response that replaces the real one; None if the rule alters the real one."""
    if rule.fault == "html_200":
        return Response(_HTML, media_type="text/html")
    if rule.fault == "redirect":
        return Response(status_code=302, headers={"Location": rule.text("to")})
    if rule.fault == "gzip_bomb":
        bomb = gzip_bomb(int(rule.number("inflate_mb", 256)))
        return Response(bomb, headers={"Content-Encoding": "gzip"}, media_type="application/json")
    if not rule.fault.startswith(_STATUS):
        return None
    status = int(rule.fault.removeprefix(_STATUS))
    headers = {"Retry-After": str(int(rule.number("retry_after", 1)))} if status in {418, 429} else {}
    code = int(rule.number("code", -1003 if status in {418, 429} else 0))
    text = json.dumps(
        {"code": code, "msg": _MESSAGES.get(status, "Internal error; unable to process your request.")}
    )
    return Response(text, status_code=status, headers=headers, media_type="application/json")


def _truncated_length(length: int, rule: FaultRule) -> int:
    """Compute the number of bytes that are sent: the share `at`, and always less than all."""
    return min(int(length * rule.number("at", 0.5)), max(0, length - 1))


class _CollectedResponse(NamedTuple):
    """First message of a response, and the body."""

    start: Message
    body: bytes


async def _collect_response(app: ASGIApp, scope: Scope, receive: Receive) -> _CollectedResponse:
    messages: list[MutableMapping[str, Any]] = []

    async def collect(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, collect)
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return _CollectedResponse(messages[0], body)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _record_response(send: Send, entry: RequestEntry) -> Send:
    async def send_and_record(message: Message) -> None:
        if message["type"] == "http.response.start":
            entry.status = message["status"]
        elif entry.method != "HEAD":
            entry.sent += len(message.get("body", b""))
        await send(message)

    return send_and_record
