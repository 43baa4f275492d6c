"""Control endpoints `/_sandbox/…`: clock, request log, fault script, new file revisions and bans."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from capture_pipeline.binance.periods import iso, parse_time
from capture_pipeline.errors import ConfigError
from capture_pipeline.parsing import guard_parser
from sandbox_exchange.archive.publisher import Archive
from sandbox_exchange.clock import SandboxClock
from sandbox_exchange.config.models import EndLocation, validate_model
from sandbox_exchange.config.spans import TimeUs
from sandbox_exchange.faults.matcher import FaultInjector
from sandbox_exchange.faults.rules import FaultScript
from sandbox_exchange.http.request_log import RequestLog
from sandbox_exchange.rest.rate_limiter import AddressLimiter, HostGroup

Model = TypeVar("Model", bound=BaseModel)


_FIRST_US, _LAST_US = parse_time("2000-01-01"), parse_time("2200-01-01")
"""Range of the clock: archive periods and listings are defined for every time in it."""
_MAX_SECONDS = (_LAST_US - _FIRST_US) / 1e6
_MAX_SPEED = 1e9
_MAX_BODY_BYTES = 4 << 20


class _ClockChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    now: Annotated[TimeUs, Field(ge=_FIRST_US, le=_LAST_US)] | None = None
    advance_s: Annotated[float, Field(ge=-_MAX_SECONDS, le=_MAX_SECONDS, allow_inf_nan=False)] | None = None
    speed: Annotated[float, Field(ge=0, le=_MAX_SPEED, allow_inf_nan=False)] | None = None


class _Republish(BaseModel):
    model_config = ConfigDict(extra="forbid")
    key: str


class _Refusal(BaseModel):
    model_config = ConfigDict(extra="forbid")
    status: Literal[429, 418, 403]
    seconds: Annotated[float, Field(gt=0, le=_MAX_SECONDS, allow_inf_nan=False)]
    stated: EndLocation | None = None
    part: HostGroup | None = None


class Control:
    """The control endpoints."""

    def __init__(
        self,
        clock: SandboxClock,
        log: RequestLog,
        faults: FaultInjector,
        archive: Archive,
        limits: AddressLimiter,
    ) -> None:
        self._clock = clock
        self._log = log
        self._faults = faults
        self._archive, self._limits = archive, limits

    def routes(self) -> list[Route]:
        return [
            Route("/_sandbox/clock", self.clock, methods=["GET", "POST"]),
            Route("/_sandbox/requests", self.requests, methods=["GET", "DELETE"]),
            Route("/_sandbox/faults", self.faults, methods=["GET", "PUT"]),
            Route("/_sandbox/limits", self.limits, methods=["GET", "POST"]),
            Route("/_sandbox/republish", self.republish, methods=["POST"]),
        ]

    async def clock(self, request: Request) -> JSONResponse:
        """Report the clock; a POST sets its time or its speed."""
        try:
            change = await parse_body(request, _ClockChange) if request.method == "POST" else _ClockChange()
            _check_target(change.now or self._clock.now_us(), change.advance_s or 0)
        except ConfigError as error:
            return error_response(error)
        if change.speed is not None:
            self._clock.set_speed(change.speed)
        if change.now is not None:
            self._clock.set(change.now)
        if change.advance_s is not None:
            self._clock.advance(change.advance_s)
        return JSONResponse(self._clock.state())

    async def requests(self, request: Request) -> JSONResponse:
        """Report the requests; a DELETE removes them first."""
        if request.method == "DELETE":
            self._log.clear()
        return JSONResponse(self._log.entries())

    async def faults(self, request: Request) -> JSONResponse:
        """Report the script with its counts; a PUT replaces it by a script or a list of rules."""
        try:
            if request.method == "PUT":
                self._faults.replace((await parse_body(request, FaultScript)).faults)
        except ConfigError as error:
            return error_response(error)
        return JSONResponse({"faults": self._faults.state()})

    async def limits(self, request: Request) -> JSONResponse:
        """Report the limits of the client's address.

        After a POST the sandbox refuses the address for the requested seconds.
        """
        try:
            refusal = await parse_body(request, _Refusal) if request.method == "POST" else None
        except ConfigError as error:
            return error_response(error)
        if refusal is not None:
            self._limits.stated = refusal.stated or self._limits.stated
            self._limits.start_refusal(refusal.status, refusal.seconds, time.time(), refusal.part)
        return JSONResponse(self._limits.state(time.time()))

    async def republish(self, request: Request) -> JSONResponse:
        """Publish a new revision of a file under the same key."""
        try:
            key = (await parse_body(request, _Republish)).key.lstrip("/")
        except ConfigError as error:
            return error_response(error)
        revision = await run_in_threadpool(self._archive.republish, key)
        if revision is None:
            return JSONResponse({"error": f"{key} is not published"}, status_code=404)
        return JSONResponse(
            {"key": key, "size": revision.size, "etag": revision.etag, "sha256": revision.sha256}
        )


async def parse_body(request: Request, model: type[Model]) -> Model:
    """Parse and validate the JSON body of a control request.

    Raises:
        ConfigError: The body is not JSON, or `model` does not accept the content.
    """
    with guard_parser(request.url.path, "the body is not JSON", kind=ConfigError):
        data: Any = json.loads(await _read_body(request))  # noqa: TID251 - guarded
        is_plain = _is_encodable(data)
    if not is_plain:
        raise ConfigError(
            "the body has a number beyond 64 bits or text that is not Unicode", where=request.url.path
        )
    if model is FaultScript and isinstance(data, list):
        data = {"faults": data}
    return validate_model(model, data, request.url.path)


async def _read_body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MAX_BODY_BYTES:
            raise ConfigError(f"the body is longer than {_MAX_BODY_BYTES:,} bytes", where=request.url.path)
        parts.append(part)
    return b"".join(parts)


def _check_target(now_us: int, advance_s: float) -> None:
    """Check that a change keeps the clock in its range."""
    if not _FIRST_US <= now_us + round(advance_s * 1e6) <= _LAST_US:
        raise ConfigError(
            f"the clock would leave {iso(_FIRST_US)} to {iso(_LAST_US)}", where="/_sandbox/clock"
        )


def _is_encodable(value: object) -> bool:
    """Return whether numbers fit 64 bits and texts are Unicode, so that responses can contain them."""
    if isinstance(value, dict):
        return all(_is_encodable(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(map(_is_encodable, value))
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    return not isinstance(value, int | float) or abs(value) < 1 << 63


def error_response(error: ConfigError) -> JSONResponse:
    """Build the response to an invalid control request."""
    return JSONResponse({"error": str(error)}, status_code=400)
