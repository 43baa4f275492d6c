"""Limits of REST requests: the weight of each minute, and pauses of the address.

A refusal of the address (429, 418, the firewall's 403) pauses every thread and process that shares its
limits, see `binance.http.pauses`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from capture_pipeline.binance.http.pauses import HostGroup, Limits, Pause
from capture_pipeline.binance.http.refusals import BACK_OFF, BANNED, FIREWALL
from capture_pipeline.binance.http.settings import RateLimits
from capture_pipeline.errors import AccessDeniedError, BannedError, RateLimitedError
from capture_pipeline.parsing import parse_count
from capture_pipeline.terminal import logger

USED_WEIGHT_HEADER = "X-MBX-USED-WEIGHT-1M"
_log = logger(__name__)


class WeightGovernor:
    """Computes the waits before requests from the used weight (sans-I/O).

    The exchange counts the weight of each calendar minute, and reports the used weight with each answer.
    """

    def __init__(self, budget: float) -> None:
        """Create a governor with no used weight.

        Args:
            budget: Weight that may be used in a minute.
        """
        self._budget = budget
        self._minute = -1
        self._used = 0

    def wait_s(self, weight: int, now_s: float) -> float:
        """Return the seconds to wait before a request; if they are 0, count the request's weight."""
        minute = int(now_s // 60)
        if minute != self._minute:
            self._minute, self._used = minute, 0
        if self._used and self._used + weight > self._budget:
            return (minute + 1) * 60 - now_s
        self._used += weight
        return 0.0

    def learn(self, used_weight: int, now_s: float) -> None:
        """Update the used weight from an answer; it includes requests of other programs at this address."""
        if int(now_s // 60) == self._minute:
            self._used = max(self._used, used_weight)


class RequestLimiter:
    """Limiter of the requests that all threads send to one host.

    Attributes:
        weight_per_minute: Weight that may be used in a minute.
    """

    def __init__(
        self,
        host: str,
        limits: RateLimits,
        weight_per_minute: int,
        address: Limits,
        *,
        now_s: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create a limiter with no used weight.

        Args:
            host: Address of the host, for the log.
            limits: Budget of weight and longest wait.
            weight_per_minute: The exchange's budget, used if the limits have none.
            address: Limits of this machine's address.
            now_s: Wall clock in seconds.
            sleep: Function that waits for a number of seconds.
        """
        self._host, self._address, self._max_wait_s = host, address, limits.max_wait_s
        self._now_s, self._sleep = now_s, sleep
        self.weight_per_minute = (limits.weight_per_minute or weight_per_minute) * limits.use_percent / 100
        self._governor = WeightGovernor(self.weight_per_minute)
        self._lock = threading.Lock()
        self._logged_until_us = 0

    def wait(self, weight: int, url: str) -> None:
        """Wait until a request may be sent.

        Raises:
            RateLimitedError: The wait is longer than `rate_limits.max_wait_s`, or the firewall refuses the
                address.
        """
        while True:
            if (pause := self._address.pause(HostGroup.REST)) is not None:
                now_s = self._now_s()
                wait = pause.left_s(now_s)
                if wait > self._max_wait_s or not pause.has_stated_end:
                    raise pause.error(url, now_s)
                self._log_pause(pause)
            else:
                with self._lock:
                    wait = self._governor.wait_s(weight, self._now_s())
                if not wait:
                    return
            self._sleep(max(0.0, wait))

    def learn(self, headers: Mapping[str, str]) -> None:
        """Update the used weight from the headers of an answer, also of a refusal."""
        used = parse_count(headers.get(USED_WEIGHT_HEADER, ""))
        if used is not None:
            with self._lock:
                self._governor.learn(used, self._now_s())

    def record_refusal(self, error: RateLimitedError | AccessDeniedError) -> bool:
        """Record a refusal of the address; return True if the request may be sent again after its pause."""
        if isinstance(error, AccessDeniedError):
            if error.status == FIREWALL:
                self._address.refuse(HostGroup.REST, FIREWALL, error.retry_after_s)
            return False
        status = BANNED if isinstance(error, BannedError) else BACK_OFF
        self._address.refuse(HostGroup.REST, status, error.retry_after_s)
        return error.retry_after_s <= self._max_wait_s

    def _log_pause(self, pause: Pause) -> None:
        """Log the wait for the end of a pause, once for all threads."""
        with self._lock:
            is_new, self._logged_until_us = pause.until_us != self._logged_until_us, pause.until_us
        if is_new:
            _log.warning("%s: %s; all requests wait until then", self._host, pause.text)
