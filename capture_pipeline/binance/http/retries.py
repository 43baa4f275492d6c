"""Repetition of requests that failed: the one policy of waits, and the end of a run that was stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import stamina

from capture_pipeline.binance.http.settings import Http as HttpSettings
from capture_pipeline.errors import CaptureError, RateLimitedError, TransientError
from capture_pipeline.terminal import logger

T = TypeVar("T")
_log = logger(__name__)


def _log_retry(details: stamina.instrumentation.RetryDetails) -> None:
    _log.info("asking again in %.1f s: %s", details.wait_for, details.caused_by)


stamina.instrumentation.set_on_retry_hooks([_log_retry])


def retry_transient(
    settings: HttpSettings, operation: Callable[[], T], cancel: threading.Event | None = None
) -> T:
    """Repeat `operation` against transient failures, with growing, jittered waits; rate limits are passed on at once.

    Args:
        settings: How often, and how long to wait.
        operation: What to do.
        cancel: Once set, `operation` is not begun again.

    Raises:
        CaptureError: The last failure, or that the run was stopped.
    """

    def is_retryable(error: Exception) -> bool:
        is_cancelled = cancel is not None and cancel.is_set()
        return (
            isinstance(error, TransientError) and not isinstance(error, RateLimitedError) and not is_cancelled
        )

    for attempt in stamina.retry_context(
        on=is_retryable,
        attempts=settings.attempts,
        timeout=settings.total_timeout_s,
        wait_initial=settings.backoff_initial_s,
        wait_max=settings.backoff_max_s,
    ):
        with attempt:
            raise_if_cancelled(cancel)
            return operation()
    raise AssertionError("stamina ends by returning or raising")


def raise_if_cancelled(cancel: threading.Event | None, where: str | None = None) -> None:
    """Raise if the run was stopped.

    Raises:
        CaptureError: `cancel` is set.
    """
    if cancel is not None and cancel.is_set():
        raise CaptureError("was not finished: the run was stopped", where=where)
