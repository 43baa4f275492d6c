"""`/_sandbox/…`: the clock, the request log, the fault script, re-publication and bans, for tests and demonstrations."""

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
from sandbox_exchange.config import validated
from sandbox_exchange.faults.matcher import FaultBook
from sandbox_exchange.faults.rules import FaultScript
from sandbox_exchange.http.request_log import RequestLog
from sandbox_exchange.market.spans import TimeUs
from sandbox_exchange.rest.rate_limiter import AddressLimiter, Part, Stated

Model = TypeVar("Model", bound=BaseModel)


_FIRST_US, _LAST_US = parse_time("2000-01-01"), parse_time("2200-01-01")
"""The clock's range: archive periods and listings are defined for any time in it."""
_LONGEST_S = (_LAST_US - _FIRST_US) / 1e6
_FASTEST = 1e9
_MOST_BODY = 4 << 20


class _ClockChange(BaseModel):
    model_config = ConfigDict(extra="forbid")
    now: Annotated[TimeUs, Field(ge=_FIRST_US, le=_LAST_US)] | None = None
    advance_s: Annotated[float, Field(ge=-_LONGEST_S, le=_LONGEST_S, allow_inf_nan=False)] | None = None
    speed: Annotated[float, Field(ge=0, le=_FASTEST, allow_inf_nan=False)] | None = None


class _Republish(BaseModel):
    model_config = ConfigDict(extra="forbid")
    key: str


class _Refuse(BaseModel):
    model_config = ConfigDict(extra="forbid")
    status: Literal[429, 418, 403]
    seconds: Annotated[float, Field(gt=0, le=_LONGEST_S, allow_inf_nan=False)]
    stated: Stated | None = None
    part: Part | None = None


class Control:
    """The control endpoints."""

    def __init__(
        self,
        clock: SandboxClock,
        log: RequestLog,
        faults: FaultBook,
        archive: Archive,
        limits: AddressLimiter,
    ) -> None:
        """Keep what is controlled."""
        self._clock = clock
        self._log = log
        self._faults = faults
        self._archive, self._limits = archive, limits

    def routes(self) -> list[Route]:
        """All control routes."""
        return [
            Route("/_sandbox/clock", self.clock, methods=["GET", "POST"]),
            Route("/_sandbox/requests", self.requests, methods=["GET", "DELETE"]),
            Route("/_sandbox/faults", self.faults, methods=["GET", "PUT"]),
            Route("/_sandbox/limits", self.limits, methods=["GET", "POST"]),
            Route("/_sandbox/republish", self.republish, methods=["POST"]),
        ]

    async def clock(self, request: Request) -> JSONResponse:
        """Show the clock; set, advance or speed it."""
        try:
            change = await body_of(request, _ClockChange) if request.method == "POST" else _ClockChange()
            _check_target(change.now or self._clock.now_us(), change.advance_s or 0)
        except ConfigError as error:
            return refused(error)
        if change.speed is not None:
            self._clock.set_speed(change.speed)
        if change.now is not None:
            self._clock.set(change.now)
        if change.advance_s is not None:
            self._clock.advance(change.advance_s)
        return JSONResponse(self._clock.state())

    async def requests(self, request: Request) -> JSONResponse:
        """Show or forget the requests."""
        if request.method == "DELETE":
            self._log.clear()
        return JSONResponse(self._log.entries())

    async def faults(self, request: Request) -> JSONResponse:
        """Show the script with its counts, or replace it; a bare list of rules is taken too."""
        try:
            if request.method == "PUT":
                self._faults.replace((await body_of(request, FaultScript)).faults)
        except ConfigError as error:
            return refused(error)
        return JSONResponse({"faults": self._faults.state()})

    async def limits(self, request: Request) -> JSONResponse:
        """Show refusals and counts of the address, or refuse it for some seconds."""
        try:
            refuse = await body_of(request, _Refuse) if request.method == "POST" else None
        except ConfigError as error:
            return refused(error)
        if refuse is not None:
            self._limits.stated = refuse.stated or self._limits.stated
            self._limits.begin(refuse.status, refuse.seconds, time.time(), refuse.part)
        return JSONResponse(self._limits.state(time.time()))

    async def republish(self, request: Request) -> JSONResponse:
        """Make a published file a new version."""
        try:
            key = (await body_of(request, _Republish)).key.lstrip("/")
        except ConfigError as error:
            return refused(error)
        facts = await run_in_threadpool(self._archive.republish, key)
        if facts is None:
            return JSONResponse({"error": f"{key} is not published"}, status_code=404)
        return JSONResponse({"key": key, "size": facts.size, "etag": facts.etag, "sha256": facts.sha256})


async def body_of(request: Request, model: type[Model]) -> Model:
    """The JSON of a control request.

    Raises:
        ConfigError: It is none, or does not fit.
    """
    with guard_parser(request.url.path, "the body is not JSON", kind=ConfigError):
        data: Any = json.loads(await _bytes_of(request))  # noqa: TID251 - guarded
        is_plain = _is_plain(data)
    if not is_plain:
        raise ConfigError(
            "the body has a number beyond 64 bits or text that is not Unicode", where=request.url.path
        )
    if model is FaultScript and isinstance(data, list):
        data = {"faults": data}
    return validated(model, data, request.url.path)


async def _bytes_of(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MOST_BODY:
            raise ConfigError(f"the body is longer than {_MOST_BODY:,} bytes", where=request.url.path)
        parts.append(part)
    return b"".join(parts)


def _check_target(now_us: int, advance_s: float) -> None:
    """Refuse a change that would take the clock out of its range."""
    if not _FIRST_US <= now_us + round(advance_s * 1e6) <= _LAST_US:
        raise ConfigError(
            f"the clock would leave {iso(_FIRST_US)} to {iso(_LAST_US)}", where="/_sandbox/clock"
        )


def _is_plain(value: object) -> bool:
    """Whether every number fits 64 bits and every text can be encoded, so that no answer that shows them can fail."""
    if isinstance(value, dict):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, str):
        return not any("\ud800" <= letter <= "\udfff" for letter in value)
    return not isinstance(value, int | float) or abs(value) < 1 << 63


def refused(error: ConfigError) -> JSONResponse:
    """A control request that makes no sense."""
    return JSONResponse({"error": str(error)}, status_code=400)
