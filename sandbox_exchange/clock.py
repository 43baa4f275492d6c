"""The sandbox's clock: wall time, a set time, frozen, or running at any speed. Knows nothing of what it is used for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from capture_pipeline.binance.periods import iso


class SandboxClock:
    """Sandbox time; safe to use from several threads."""

    def __init__(
        self, now_us: int | None = None, *, speed: float = 1.0, real_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the clock.

        Args:
            now_us: Sandbox time at the start, microseconds UTC; None for the wall clock's.
            speed: Sandbox seconds a real second; 0 freezes it.
            real_s: Real time in seconds; only its differences count.
        """
        self._lock = threading.Lock()
        self._real_s = real_s
        self._speed = speed
        self._base_us = time.time_ns() // 1000 if now_us is None else now_us
        self._base_real = real_s()

    def now_us(self) -> int:
        """Sandbox time, microseconds UTC."""
        with self._lock:
            return self._read()

    @property
    def speed(self) -> float:
        """Sandbox seconds a real second; 0 while frozen."""
        return self._speed

    def set(self, now_us: int) -> None:
        """Jump to a time, forward or back; the speed stays."""
        with self._lock:
            self._base_us, self._base_real = now_us, self._real_s()

    def advance(self, seconds: float) -> None:
        """Jump by some sandbox seconds."""
        with self._lock:
            self._base_us, self._base_real = self._read() + round(seconds * 1e6), self._real_s()

    def set_speed(self, speed: float) -> None:
        """Go on from the present sandbox time at another speed."""
        with self._lock:
            self._base_us, self._base_real = self._read(), self._real_s()
            self._speed = speed

    def state(self) -> dict[str, int | float | str]:
        """What the control endpoint shows."""
        now_us = self.now_us()
        return {"now": iso(now_us), "now_us": now_us, "speed": self._speed}

    def _read(self) -> int:
        return self._base_us + round((self._real_s() - self._base_real) * 1e6 * self._speed)
