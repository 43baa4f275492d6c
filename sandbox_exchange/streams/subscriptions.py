"""JSON requests on a stream connection (SUBSCRIBE and others), answered with the texts of the exchange."""

from __future__ import annotations

import json
from typing import Any, Protocol

from capture_pipeline.parsing import PARSE_ERRORS
from sandbox_exchange.constants import MAX_STREAMS

_METHODS = {"SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY"}


class Subscriber(Protocol):
    """State of a connection that requests change.

    Attributes:
        streams: Subscribed names, in order.
        wrapped: Whether messages have the envelope of the combined stream.
    """

    streams: dict[str, None]
    wrapped: bool


class _RefusedError(Exception):
    def __init__(self, code: int, msg: str) -> None:
        super().__init__(msg)
        self.code = code


def answer(subscriber: Subscriber, text: bytes) -> bytes:
    """Execute a request and return the answer as JSON."""
    request_id: Any = None
    try:
        request = _parse_request(text)
        request_id = _check_id(request.get("id"))
        response: dict[str, Any] = {"result": _execute(subscriber, request), "id": request_id}
    except _RefusedError as refused:
        response = {"error": {"code": refused.code, "msg": str(refused)}, "id": request_id}
    return json.dumps(response, separators=(",", ":")).encode()


def _parse_request(text: bytes) -> dict[str, Any]:
    try:
        request = json.loads(text)  # noqa: TID251 - guarded
    except PARSE_ERRORS as error:
        raise _RefusedError(
            3, f"Invalid JSON: expected value at line 1 column {getattr(error, 'colno', 1)}"
        ) from None
    if not isinstance(request, dict):
        raise _RefusedError(2, "Invalid request: request must be an object")
    return request


def _check_id(value: object) -> object:
    if isinstance(value, bool) or not (value is None or isinstance(value, int | str)):
        raise _RefusedError(2, "Invalid request: request ID must be an unsigned integer")
    return value


def _execute(subscriber: Subscriber, request: dict[str, Any]) -> Any:
    method, params = request.get("method"), request.get("params", [])
    if not isinstance(method, str):
        raise _RefusedError(2, "Invalid request: method name must be a string")
    if method not in _METHODS:
        raise _RefusedError(
            2,
            f"Invalid request: unknown variant `{method[:40]}`, "
            f"expected one of {', '.join(sorted(_METHODS))}",
        )
    if method == "LIST_SUBSCRIPTIONS":
        return list(subscriber.streams)
    if not isinstance(params, list) or not params:
        raise _RefusedError(2, "Invalid request: params must be an array with at least one value")
    if method.endswith("PROPERTY"):
        return _access_property(subscriber, method, params)
    if not all(isinstance(name, str) for name in params):
        raise _RefusedError(2, "Invalid request: each of the params must be a string")
    return _change_subscription(subscriber, dict.fromkeys(params), adds=method == "SUBSCRIBE")


def _change_subscription(subscriber: Subscriber, wanted: dict[str, None], *, adds: bool) -> None:
    if not adds:
        subscriber.streams = {name: None for name in subscriber.streams if name not in wanted}
    elif len(subscriber.streams | wanted) > MAX_STREAMS:
        raise _RefusedError(2, f"Invalid request: a connection may listen to at most {MAX_STREAMS} streams")
    else:
        subscriber.streams |= wanted


def _access_property(subscriber: Subscriber, method: str, params: list[Any]) -> Any:
    if params[0] != "combined":
        raise _RefusedError(0, "Unknown property")
    if method == "GET_PROPERTY":
        return subscriber.wrapped
    if not isinstance(params[-1], bool):
        raise _RefusedError(1, "Invalid value type: expected Boolean")
    subscriber.wrapped = params[-1]
    return None
