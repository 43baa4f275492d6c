"""The exchange's limits of an address: request weight a minute, connection attempts in five minutes, and bans. Holds no clock.

A refusal is 429 (back off), 418 (banned) or 403 (the firewall). Whoever goes on after 429 is banned.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

_MINUTE_S = 60
BACK_OFF, BANNED, FIREWALL = 429, 418, 403
_TOO_MANY = "Too many requests; current limit is {} request weight per 1 MINUTE. Please use WebSocket Streams for live updates."
_BAN = "Way too many requests; IP banned until {}. Please use WebSocket Streams for live updates."
_BLOCKED = b"<HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD><BODY><H1>403 ERROR</H1>Request blocked.</BODY></HTML>"


class Stated(StrEnum):
    """The place where a refusal states its end."""

    BOTH = "both"
    """In `Retry-After`; a ban's end also in the body."""
    BODY = "body"
    """A ban's end in the body alone; 429 and 403 then state none."""
    NOWHERE = "nowhere"


@dataclass(frozen=True)
class Refusal:
    """An answer that refuses an address.

    Attributes:
        status: 429, 418 or 403.
        wait_s: Seconds until it ends, whole.
        until_ms: The same as milliseconds UTC.
        stated: Where it says so.
        budget: Weight a minute, for the text of 429.
    """

    status: int
    wait_s: int
    until_ms: int
    stated: Stated
    budget: int

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        kind = "text/html" if self.status == FIREWALL else "application/json"
        return {"Content-Type": kind} | (
            {"Retry-After": str(self.wait_s)} if self.stated is Stated.BOTH else {}
        )

    @property
    def body(self) -> bytes:
        """Body of the answer: the firewall's is HTML."""
        if self.status == FIREWALL:
            return _BLOCKED
        end = "further notice" if self.stated is Stated.NOWHERE else self.until_ms
        text = _TOO_MANY.format(self.budget) if self.status == BACK_OFF else _BAN.format(end)
        return json.dumps({"code": -1003, "msg": text}).encode()


class Part(StrEnum):
    """The hosts that a limit is about."""

    REST = "rest"
    STREAMS = "streams"


@dataclass
class _Block:
    """A refusal of some hosts, over where `until_s` is past."""

    status: int = 0
    until_s: float = 0.0
    ignored: int = 0


class AddressLimiter:
    """What the exchange allows the one address that asks. 429 is about one part of the hosts; a ban and the firewall are about all.

    Attributes:
        stated: Where refusals state their end.
        refused: Requests by part that came while a refusal was in force.
        attempts: Handshakes of streams, all.
        surplus: Those of them beyond the limit of attempts.
    """

    def __init__(
        self,
        *,
        requests_until_ban: int,
        ban_s: float,
        attempts: int = 300,
        window_s: float = 300,
        stated: Stated = Stated.BOTH,
    ) -> None:
        """Start with nothing refused.

        Args:
            requests_until_ban: Requests sent despite 429, before its end, that bring a ban.
            ban_s: Length of such a ban in seconds.
            attempts: Handshakes in `window_s` that are admitted.
            window_s: Seconds.
            stated: Where refusals state their end.
        """
        self.stated = stated
        self.refused = dict.fromkeys(Part, 0)
        self.attempts = self.surplus = 0
        self._until_ban, self._ban_s = requests_until_ban, ban_s
        self._most, self._window_s = attempts, window_s
        self._times: deque[float] = deque()
        self._blocks = {part: _Block() for part in Part}
        self._lock = threading.RLock()

    def begin(self, status: int, seconds: float, now_s: float, part: Part | None = None) -> None:
        """Refuse the address from now on.

        Args:
            status: 429, 418 or 403.
            seconds: How long.
            now_s: Wall clock, seconds.
            part: None for all hosts.
        """
        with self._lock:
            for one in Part if part is None else (part,):
                self._blocks[one] = _Block(status, now_s + seconds)

    def refuse(self, part: Part, now_s: float, budget: int = 0) -> Refusal | None:
        """Count a request; the refusal that it meets, None where it is admitted.

        Args:
            part: What is asked.
            now_s: Wall clock, seconds.
            budget: Weight a minute, for the text of 429.
        """
        with self._lock:
            self.attempts += part is Part.STREAMS
            block = self._blocks[part]
            if now_s < block.until_s:
                self.refused[part] += 1
                block.ignored += 1
                if block.status == BACK_OFF and block.ignored >= self._until_ban:
                    self.begin(BANNED, self._ban_s, now_s)
            elif part is Part.STREAMS:
                self._count_attempt(now_s)
            return self.refusal(part, now_s, budget)

    def refusal(self, part: Part, now_s: float, budget: int = 0) -> Refusal | None:
        """Return the refusal in force, without counting a request."""
        with self._lock:
            block = self._blocks[part]
            left_s = block.until_s - now_s
            if left_s <= 0:
                return None
            return Refusal(
                block.status, max(1, -int(-left_s // 1)), round(block.until_s * 1000), self.stated, budget
            )

    def state(self, now_s: float) -> dict[str, object]:
        """Return what control shows."""
        with self._lock:
            refusals = {part: self.refusal(part, now_s) for part in Part}
            shown = {
                part: {"status": one.status, "until_ms": one.until_ms} if one else None
                for part, one in refusals.items()
            }
            counts = {"connection_attempts": self.attempts, "surplus_attempts": self.surplus}
            return {"in_force": shown, "stated": self.stated, "refused": dict(self.refused), **counts}

    def _count_attempt(self, now_s: float) -> None:
        while self._times and now_s - self._times[0] >= self._window_s:
            self._times.popleft()
        if len(self._times) < self._most:
            self._times.append(now_s)
        else:
            self.surplus += 1
            self.begin(BACK_OFF, self._times[0] + self._window_s - now_s, now_s, Part.STREAMS)


@dataclass(frozen=True)
class Admission:
    """What becomes of a request.

    Attributes:
        used: Weight used in this minute, this request included.
        refusal: None where the request is admitted.
    """

    used: int
    refusal: Refusal | None = None


class Limiter:
    """The weight of one host."""

    def __init__(self, budget: int, address: AddressLimiter) -> None:
        """Start with an unused minute.

        Args:
            budget: Weight a minute.
            address: Refuses the address once the budget is used up.
        """
        self._budget, self._address = budget, address
        self._minute = -1
        self._used = 0
        self._lock = threading.Lock()

    def admit(self, weight: int, now_s: float) -> Admission:
        """Count a request at a wall-clock time in seconds."""
        with self._lock:
            minute = int(now_s // _MINUTE_S)
            if minute != self._minute:
                self._minute, self._used = minute, 0
            if (refusal := self._address.refuse(Part.REST, now_s, self._budget)) is not None:
                return Admission(self._used, refusal)
            self._used += weight
            if self._used > self._budget:
                self._address.begin(BACK_OFF, (minute + 1) * _MINUTE_S - now_s, now_s, Part.REST)
            return Admission(self._used, self._address.refusal(Part.REST, now_s, self._budget))
