"""The exchange's request weight: a budget a wall-clock minute, 429 above it, 418 for those who go on. Holds no clock."""

from __future__ import annotations

import threading
from dataclasses import dataclass

_MINUTE_S = 60


@dataclass(frozen=True)
class Admission:
    """What becomes of a request.

    Attributes:
        status: 200, 429 or 418.
        used: Weight used in this minute, this request included.
        retry_after_s: How long to wait, whole seconds; 0 where the request is admitted.
    """

    status: int
    used: int
    retry_after_s: int = 0


class Limiter:
    """The weight of one host."""

    def __init__(self, budget: int, *, requests_until_ban: int, ban_s: float) -> None:
        """Start with an unused minute.

        Args:
            budget: Weight a minute.
            requests_until_ban: Requests sent despite 429, before its Retry-After is over, that bring a ban.
            ban_s: Length of a ban in seconds.
        """
        self._budget = budget
        self._until_ban = requests_until_ban
        self._ban_s = ban_s
        self._minute = -1
        self._used = 0
        self._ignored = 0
        self._banned_until = 0.0
        self._lock = threading.Lock()

    def admit(self, weight: int, now_s: float) -> Admission:
        """Count a request at a wall-clock time in seconds."""
        with self._lock:
            minute = int(now_s // _MINUTE_S)
            if minute != self._minute:
                self._minute, self._used, self._ignored = minute, 0, 0
            if now_s < self._banned_until:
                return Admission(418, self._used, _whole(self._banned_until - now_s))
            self._used += weight
            if self._used <= self._budget:
                return Admission(200, self._used)
            self._ignored += 1
            if self._ignored > self._until_ban:
                self._banned_until = now_s + self._ban_s
                return Admission(418, self._used, _whole(self._ban_s))
            return Admission(429, self._used, _whole((minute + 1) * _MINUTE_S - now_s))


def _whole(seconds: float) -> int:
    return max(1, -int(-seconds // 1))
