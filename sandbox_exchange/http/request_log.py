"""Log of the last requests, for tests and the control endpoint."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from starlette.types import Scope

from sandbox_exchange.faults.rules import FaultRule

_MAX_ENTRIES = 20_000
_KEY = "sandbox.entry"


@dataclass
class RequestEntry:
    """One request.

    Attributes:
        method: GET or HEAD.
        path: Requested path.
        query: Raw query string.
        range: Range header, None without one.
        at_us: Sandbox time of the arrival, microseconds UTC.
        status: Status of the response; None before the response and after a reset of the connection.
        sent: Number of body bytes sent.
        fault: Kinds of the injected faults, joined by `+`; None without a fault.
    """

    method: str
    path: str
    query: str
    range: str | None
    at_us: int
    status: int | None = None
    sent: int = 0
    fault: str | None = None


class RequestLog:
    """The most recent requests; thread-safe."""

    def __init__(self) -> None:
        self._entries: deque[RequestEntry] = deque(maxlen=_MAX_ENTRIES)
        self._lock = threading.Lock()

    def add(self, scope: Scope, at_us: int) -> RequestEntry:
        """Add a request at its arrival; the middleware completes the returned entry."""
        headers = dict(scope["headers"])
        range_header = headers[b"range"].decode("latin-1") if b"range" in headers else None
        entry = RequestEntry(
            scope["method"], scope["path"], scope["query_string"].decode("latin-1"), range_header, at_us
        )
        scope[_KEY] = entry
        with self._lock:
            self._entries.append(entry)
        return entry

    def entries(self) -> list[dict[str, Any]]:
        """Return the stored requests, oldest first."""
        with self._lock:
            return [asdict(entry) for entry in self._entries]

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


def log_fault(scope: Scope, rule: FaultRule | None) -> None:
    """Add a fault to the log entry of a request."""
    entry: RequestEntry | None = scope.get(_KEY)
    if rule is not None and entry is not None:
        entry.fault = f"{entry.fault}+{rule.fault}" if entry.fault else rule.fault
