"""Waits before repetitions: after each failure the wait doubles, up to a limit.

stamina repeats a call inside one process. `Backoff` computes the wait where the failures are counted in a
file or in Dagster's storage, and another process may make the next attempt.

| repetition | waits | mechanism |
|---|---|---|
| request to the exchange (`binance.http.retries`) | `http.backoff_initial_s` to `…_max_s` | stamina |
| request for lost trades (`recorder.background.refill_requests`) | 3 s to 15 min | stamina |
| connection for streams (`recorder.connections.supervisor`) | 0.1 s to 30 s | stamina |
| snapshot of a book (`recorder.background.tasks`) | 0.5 s to 1 min | stamina |
| process of the recorder (`recorder.process`) | 1 s to 8 s | stamina |
| message of a channel (`operations.alerts.delivery`) | 30 s to 15 min | `Backoff`; the spool counts |
| run that a sensor requests (`defs.shared.sensor_backoff`) | 1 h to 24 h | `Backoff`; the cursor counts |
| run that records a session (`defs.golden_samples.attempts`) | 5 s to 10 min | `Backoff`; the runs count |
| step of a run (`defs.shared.failures`) | 5 s to 15 min | Dagster's `RetryPolicy` |

A pause that the exchange requires (429, 418) is no repetition: see `binance.http.pauses`.
"""

from __future__ import annotations

from dataclasses import dataclass

_MAX_DOUBLINGS = 60


@dataclass(frozen=True)
class Backoff:
    """Waits that double.

    Attributes:
        first_s: Wait after the first failure, seconds.
        max_s: Longest wait, seconds.
    """

    first_s: float
    max_s: float

    def wait_s(self, failures: int) -> float:
        """Return the wait in seconds after a number of failures in a row; 0 without a failure."""
        if failures < 1:
            return 0.0
        return min(self.max_s, self.first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS))
