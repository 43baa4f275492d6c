"""Control endpoint `/_sandbox/streams`: connections, sent messages and injection of faults."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from capture_pipeline.errors import ConfigError
from sandbox_exchange.config.models import validate_model
from sandbox_exchange.faults.rules import FaultRule
from sandbox_exchange.faults.stream_rules import CONNECTION_KINDS
from sandbox_exchange.server.control import error_response, parse_body
from sandbox_exchange.streams.hub import StreamHub


class _Injection(BaseModel):
    """Connection number and, as further keys, a fault with its parameters."""

    model_config = ConfigDict(extra="allow")
    connection: int | Literal["all"]


class StreamControl:
    """Handler of the control endpoint of streams."""

    def __init__(self, hub: StreamHub) -> None:
        self._hub = hub

    def routes(self) -> list[Route]:
        return [Route("/_sandbox/streams", self.streams, methods=["GET", "POST"])]

    async def streams(self, request: Request) -> JSONResponse:
        """Report the connections; a POST injects a fault into one or all of them."""
        if request.method == "GET":
            return JSONResponse(self._hub.state())
        try:
            injection = await parse_body(request, _Injection)
            rule = _parse_rule(injection.model_extra or {}, request.url.path)
        except ConfigError as error:
            return error_response(error)
        numbers = self._hub.inject(injection.connection, rule)
        if not numbers and injection.connection != "all":
            return JSONResponse({"error": f"connection {injection.connection} is not open"}, status_code=404)
        return JSONResponse({"hit": numbers})


def _parse_rule(keys: dict[str, Any], where: str) -> FaultRule:
    rule = validate_model(FaultRule, keys, where)
    if rule.fault not in CONNECTION_KINDS or keys.keys() & {"times", "after", "every", "every_s", "match"}:
        remedy = f"give fault, one of {', '.join(CONNECTION_KINDS)}, and its parameters"
        raise ConfigError("is no fault that can be injected by hand", where=where, remedy=remedy)
    return rule
