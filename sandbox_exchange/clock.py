"""Sandbox clock: wall time or a chosen time, stopped or running at any speed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from capture_pipeline.binance.periods import iso


class SandboxClock:
    """Clock of the sandbox; thread-safe."""

    def __init__(
        self, now_us: int | None = None, *, speed: float = 1.0, real_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the clock.

        Args:
            now_us: Sandbox time at the start, microseconds UTC; None for the time of the wall clock.
            speed: Sandbox seconds per real second; 0 stops the clock.
            real_s: Function that returns real time in seconds; only differences are used.
        """
        self._lock = threading.Lock()
        self._real_s = real_s
        self._speed = speed
        self._base_us = time.time_ns() // 1000 if now_us is None else now_us
        self._base_real = real_s()

    def now_us(self) -> int:
        """Return the sandbox time in microseconds UTC."""
        with self._lock:
            return self._compute_now_us()

    @property
    def speed(self) -> float:
        """Sandbox seconds per real second; 0 while the clock is stopped."""
        return self._speed

    def set(self, now_us: int) -> None:
        """Set the time, forward or back, and keep the speed."""
        with self._lock:
            self._base_us, self._base_real = now_us, self._real_s()

    def advance(self, seconds: float) -> None:
        """Move the time by a number of sandbox seconds."""
        with self._lock:
            self._base_us, self._base_real = self._compute_now_us() + round(seconds * 1e6), self._real_s()

    def set_speed(self, speed: float) -> None:
        """Change the speed from the present sandbox time on."""
        with self._lock:
            self._base_us, self._base_real = self._compute_now_us(), self._real_s()
            self._speed = speed

    def state(self) -> dict[str, int | float | str]:
        """Return time and speed as the control endpoint reports them."""
        now_us = self.now_us()
        return {"now": iso(now_us), "now_us": now_us, "speed": self._speed}

    def _compute_now_us(self) -> int:
        return self._base_us + round((self._real_s() - self._base_real) * 1e6 * self._speed)
