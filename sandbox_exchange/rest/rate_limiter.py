"""Limits of an address: request weight per minute, connection attempts in five minutes, and bans.

A refusal has the status 429 (back off), 418 (banned) or 403 (firewall). An address that ignores a 429 is
banned. Callers pass the time.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from sandbox_exchange.config.models import EndLocation

_MINUTE_S = 60
BACK_OFF, BANNED, FIREWALL = 429, 418, 403
_TOO_MANY = (
    "Too many requests; current limit is {} request weight per 1 MINUTE. "
    "Please use WebSocket Streams for live updates."
)
_BAN = "Way too many requests; IP banned until {}. Please use WebSocket Streams for live updates."
_BLOCKED = (
    b"<HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD>"
    b"<BODY><H1>403 ERROR</H1>Request blocked.</BODY></HTML>"
)


@dataclass(frozen=True)
class Refusal:
    """Response that refuses an address.

    Attributes:
        status: 429, 418 or 403.
        wait_s: Whole seconds until the end of the refusal.
        until_ms: End of the refusal, milliseconds UTC.
        stated: Place in which the response states the end.
        budget: Weight per minute, for the text of 429.
    """

    status: int
    wait_s: int
    until_ms: int
    stated: EndLocation
    budget: int

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        kind = "text/html" if self.status == FIREWALL else "application/json"
        return {"Content-Type": kind} | (
            {"Retry-After": str(self.wait_s)} if self.stated is EndLocation.BOTH else {}
        )

    @property
    def body(self) -> bytes:
        """Body of the response; the firewall sends HTML."""
        if self.status == FIREWALL:
            return _BLOCKED
        end = "further notice" if self.stated is EndLocation.NOWHERE else self.until_ms
        text = _TOO_MANY.format(self.budget) if self.status == BACK_OFF else _BAN.format(end)
        return json.dumps({"code": -1003, "msg": text}).encode()


class HostGroup(StrEnum):
    """Hosts that a limit applies to."""

    REST = "rest"
    STREAMS = "streams"


@dataclass
class _Block:
    """Refusal on some hosts until `until_s`; `ignored` counts the requests during the refusal."""

    status: int = 0
    until_s: float = 0.0
    ignored: int = 0


class AddressLimiter:
    """Limits of the only client address.

    429 applies to one part of the hosts; 418 and 403 apply to all hosts.

    Attributes:
        stated: Place in which refusals state their end.
        refused: Number of requests during a refusal by part.
        attempts: Number of stream handshakes.
        surplus: Number of stream handshakes beyond the limit.
    """

    def __init__(
        self,
        *,
        requests_until_ban: int,
        ban_s: float,
        attempts: int = 300,
        window_s: float = 300,
        stated: EndLocation = EndLocation.BOTH,
    ) -> None:
        """Create a limiter without refusals.

        Args:
            requests_until_ban: Number of requests during a 429 that cause a ban.
            ban_s: Length of a ban in seconds.
            attempts: Number of handshakes that are accepted per `window_s`.
            window_s: Seconds.
            stated: Place in which refusals state their end.
        """
        self.stated = stated
        self.refused = dict.fromkeys(HostGroup, 0)
        self.attempts = self.surplus = 0
        self._requests_until_ban, self._ban_s = requests_until_ban, ban_s
        self._max_attempts, self._window_s = attempts, window_s
        self._times: deque[float] = deque()
        self._blocks = {part: _Block() for part in HostGroup}
        self._lock = threading.RLock()

    def start_refusal(self, status: int, seconds: float, now_s: float, part: HostGroup | None = None) -> None:
        """Refuse the address for some seconds.

        Args:
            status: 429, 418 or 403.
            seconds: Length of the refusal.
            now_s: Wall-clock time, seconds.
            part: Hosts that refuse; None for all.
        """
        with self._lock:
            for one in HostGroup if part is None else (part,):
                self._blocks[one] = _Block(status, now_s + seconds)

    def count_request(self, part: HostGroup, now_s: float, budget: int = 0) -> Refusal | None:
        """Count a request and return its refusal; None if it is accepted.

        Args:
            part: Requested hosts.
            now_s: Wall-clock time, seconds.
            budget: Weight per minute, for the text of 429.
        """
        with self._lock:
            self.attempts += part is HostGroup.STREAMS
            block = self._blocks[part]
            if now_s < block.until_s:
                self.refused[part] += 1
                block.ignored += 1
                if block.status == BACK_OFF and block.ignored >= self._requests_until_ban:
                    self.start_refusal(BANNED, self._ban_s, now_s)
            elif part is HostGroup.STREAMS:
                self._count_attempt(now_s)
            return self.current_refusal(part, now_s, budget)

    def current_refusal(self, part: HostGroup, now_s: float, budget: int = 0) -> Refusal | None:
        """Return the present refusal without counting a request."""
        with self._lock:
            block = self._blocks[part]
            left_s = block.until_s - now_s
            if left_s <= 0:
                return None
            return Refusal(
                block.status, max(1, -int(-left_s // 1)), round(block.until_s * 1000), self.stated, budget
            )

    def state(self, now_s: float) -> dict[str, object]:
        """Return refusals and counts for the control endpoint."""
        with self._lock:
            refusals = {part: self.current_refusal(part, now_s) for part in HostGroup}
            in_force = {
                part: {"status": one.status, "until_ms": one.until_ms} if one else None
                for part, one in refusals.items()
            }
            counts = {"connection_attempts": self.attempts, "surplus_attempts": self.surplus}
            return {"in_force": in_force, "stated": self.stated, "refused": dict(self.refused), **counts}

    def _count_attempt(self, now_s: float) -> None:
        while self._times and now_s - self._times[0] >= self._window_s:
            self._times.popleft()
        if len(self._times) < self._max_attempts:
            self._times.append(now_s)
        else:
            self.surplus += 1
            self.start_refusal(BACK_OFF, self._times[0] + self._window_s - now_s, now_s, HostGroup.STREAMS)


@dataclass(frozen=True)
class Admission:
    """Result of counting a request.

    Attributes:
        used: Weight used in this minute, including the request.
        refusal: Refusal of the request; None if it is accepted.
    """

    used: int
    refusal: Refusal | None = None


class WeightLimiter:
    """Weight limit of one host."""

    def __init__(self, budget: int, address: AddressLimiter) -> None:
        """Create a limiter without used weight.

        Args:
            budget: Weight per minute.
            address: Limiter that refuses the address after the budget is used up.
        """
        self._budget, self._address = budget, address
        self._minute = -1
        self._used = 0
        self._lock = threading.Lock()

    def admit(self, weight: int, now_s: float) -> Admission:
        """Count the weight of a request; `now_s` is wall-clock time in seconds."""
        with self._lock:
            minute = int(now_s // _MINUTE_S)
            if minute != self._minute:
                self._minute, self._used = minute, 0
            if (refusal := self._address.count_request(HostGroup.REST, now_s, self._budget)) is not None:
                return Admission(self._used, refusal)
            self._used += weight
            if self._used > self._budget:
                self._address.start_refusal(BACK_OFF, (minute + 1) * _MINUTE_S - now_s, now_s, HostGroup.REST)
            return Admission(self._used, self._address.current_refusal(HostGroup.REST, now_s, self._budget))
