"""HTTP handlers of REST: weights, limits, and the headers and errors of the exchange."""

from __future__ import annotations

import json
import time
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from capture_pipeline.binance.periods import SECOND_US
from capture_pipeline.binance.urls import Market
from capture_pipeline.parsing import parse_count
from sandbox_exchange.constants import DEFAULT_ROWS, REST_ROOTS, WEIGHTS
from sandbox_exchange.faults.kinds import FaultStage
from sandbox_exchange.faults.matcher import FaultInjector, RequestInfo
from sandbox_exchange.faults.rules import FaultRule
from sandbox_exchange.http.request_log import log_fault
from sandbox_exchange.rest.corrupt_answers import corrupt_klines, encode_body
from sandbox_exchange.rest.market_data import Endpoint, RestApi
from sandbox_exchange.rest.params import Params, RestError
from sandbox_exchange.rest.rate_limiter import FIREWALL, WeightLimiter


class Trading(Protocol):
    """Depth and trades of a market or of a recording."""

    def endpoints(self) -> dict[str, Endpoint]:
        """Return the endpoints by name."""


def compute_weight(market: Market, endpoint: str, query: dict[str, str]) -> int:
    """Return the weight of a request, which may depend on its limit."""
    steps = WEIGHTS[market][endpoint]
    if isinstance(steps, int):
        return steps
    requested = parse_count(query.get("limit", ""))
    limit = DEFAULT_ROWS[market][endpoint] if requested is None else requested
    return next((weight for bound, weight in steps if limit <= bound), steps[-1][1])


class RestHost:
    """HTTP handlers of all endpoints of one market."""

    def __init__(
        self,
        market: Market,
        api: RestApi,
        trading: Trading,
        limiter: WeightLimiter,
        faults: FaultInjector,
        lag_s: float,
    ) -> None:
        """Create the handlers; `lag_s` is the age of the data that are served."""
        self._market = market
        self._api = api
        self._limiter = limiter
        self._faults = faults
        self._lag_s = lag_s
        self._endpoints: dict[str, Endpoint] = {**api.endpoints(), **trading.endpoints()}

    def routes(self) -> list[Route]:
        return [Route(f"{REST_ROOTS[self._market]}/{{name}}", self.answer, methods=["GET"])]

    async def answer(self, request: Request) -> Response:
        """Check the limits, compute the response and return it."""
        name: str = request.path_params["name"]
        if name not in self._endpoints:
            return Response(
                "<html><head><title>404 Not Found</title></head></html>",
                status_code=404,
                media_type="text/html",
            )
        query = dict(request.query_params)
        admitted = self._limiter.admit(compute_weight(self._market, name, query), time.time())
        headers = {"X-MBX-USED-WEIGHT": str(admitted.used), "X-MBX-USED-WEIGHT-1M": str(admitted.used)}
        if (refusal := admitted.refusal) is not None:
            # The firewall refuses requests before the servers that count weights.
            weights = {} if refusal.status == FIREWALL else headers
            return Response(refusal.body, status_code=refusal.status, headers={**weights, **refusal.headers})
        rule = self._faults.select(FaultStage.REST, RequestInfo(request.method, request.url.path, query))
        log_fault(request.scope, rule)
        if rule is not None and rule.fault == "rest_header":
            headers[rule.text("name", "X-Unknown")] = rule.text("value", "1")
        micro = (
            self._market is Market.SPOT
            and request.headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND"
        )
        try:
            # Only klines are computed in a thread, as those of a year take long. For short work a thread is
            # slower: it competes with the streams.
            lag_s = (
                rule.number("lag_s", 3600) if rule is not None and rule.fault == "rest_lag" else self._lag_s
            )
            arguments = name, Params(query, round(lag_s * SECOND_US)), rule, micro
            body = (
                await run_in_threadpool(self._compute_body, *arguments)
                if name == "klines"
                else self._compute_body(*arguments)
            )
        except RestError as error:
            return _error_response(error.status, error.code, error.msg, headers)
        return Response(body, headers=headers, media_type="application/json")

    def _compute_body(
        self,
        name: str,
        params: Params,
        rule: FaultRule | None,
        micro: bool,  # noqa: FBT001
    ) -> bytes:
        value: Any
        if name == "klines" and rule is not None:
            value = corrupt_klines(self._api, self._api.kline_query(params), rule, micro=micro)
        else:
            value = self._endpoints[name](params, micro)
        return encode_body(value, rule, micro=micro)


def _error_response(status: int, code: int, msg: str, headers: dict[str, str]) -> Response:
    return Response(
        json.dumps({"code": code, "msg": msg}),
        status_code=status,
        headers=headers,
        media_type="application/json",
    )
