"""`/_sandbox/streams`: who is connected, what was sent, and faults on request."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from capture_pipeline.errors import ConfigError
from sandbox_exchange.config import validated
from sandbox_exchange.faults.rules import FaultRule
from sandbox_exchange.faults.stream_rules import CONNECTION_KINDS
from sandbox_exchange.server.control import body_of, refused
from sandbox_exchange.streams.hub import StreamHub


class _Kick(BaseModel):
    """Which connection is hit; the other keys are those of a rule."""

    model_config = ConfigDict(extra="allow")
    connection: int | Literal["all"]


class StreamControl:
    """The control endpoint of streams."""

    def __init__(self, hub: StreamHub) -> None:
        """Keep what is controlled."""
        self._hub = hub

    def routes(self) -> list[Route]:
        """The route."""
        return [Route("/_sandbox/streams", self.streams, methods=["GET", "POST"])]

    async def streams(self, request: Request) -> JSONResponse:
        """Show the connections, or hit one or all of them."""
        if request.method == "GET":
            return JSONResponse(self._hub.state())
        try:
            asked = await body_of(request, _Kick)
            rule = _rule_of(asked.model_extra or {}, request.url.path)
        except ConfigError as error:
            return refused(error)
        hit = self._hub.kick(asked.connection, rule)
        if not hit and asked.connection != "all":
            return JSONResponse({"error": f"connection {asked.connection} is not open"}, status_code=404)
        return JSONResponse({"hit": hit})


def _rule_of(keys: dict[str, Any], where: str) -> FaultRule:
    rule = validated(FaultRule, keys, where)
    if rule.fault not in CONNECTION_KINDS or keys.keys() & {"times", "after", "every", "every_s", "match"}:
        remedy = f"give fault, one of {', '.join(CONNECTION_KINDS)}, and its parameters"
        raise ConfigError("is no fault that can be injected by hand", where=where, remedy=remedy)
    return rule
