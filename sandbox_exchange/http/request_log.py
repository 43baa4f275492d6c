"""The log of requests that tests read: bounded, oldest forgotten first."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from starlette.types import Scope

from sandbox_exchange.faults.rules import FaultRule

_KEPT = 20_000
_KEY = "sandbox.entry"


@dataclass
class Entry:
    """One request.

    Attributes:
        method: GET or HEAD.
        path: As it was asked.
        query: Raw query string.
        range: Range header, None without one.
        at_us: Sandbox time of its arrival, microseconds UTC.
        status: Of the answer; None while there is none, and where the connection was reset.
        sent: Bytes of the body that were sent.
        fault: Kinds of the faults injected, joined by +; None where there was none.
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
    """The last requests."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: deque[Entry] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def add(self, scope: Scope, at_us: int) -> Entry:
        """Note a request at its arrival; its entry is completed by those who answer it."""
        headers = dict(scope["headers"])
        asked = headers[b"range"].decode("latin-1") if b"range" in headers else None
        entry = Entry(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), asked, at_us)
        scope[_KEY] = entry
        with self._lock:
            self._entries.append(entry)
        return entry

    def entries(self) -> list[dict[str, Any]]:
        """All that are remembered, oldest first."""
        with self._lock:
            return [asdict(entry) for entry in self._entries]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()


def note_fault(scope: Scope, rule: FaultRule | None) -> None:
    """Write a fault into the entry of a request."""
    entry: Entry | None = scope.get(_KEY)
    if rule is not None and entry is not None:
        entry.fault = f"{entry.fault}+{rule.fault}" if entry.fault else rule.fault
