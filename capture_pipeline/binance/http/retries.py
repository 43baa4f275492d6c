"""Retries of failed requests with growing waits, and the cancellation of a run."""

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
    _log.info("retry in %.1f s: %s", details.wait_for, details.caused_by)


stamina.instrumentation.set_on_retry_hooks([_log_retry])


def retry_transient(
    settings: HttpSettings, operation: Callable[[], T], cancel: threading.Event | None = None
) -> T:
    """Call `operation` and repeat it after transient failures, with growing, random waits.

    Rate limits are not repeated here.

    Args:
        settings: Number of attempts and lengths of the waits.
        operation: Function to call.
        cancel: Event that stops further attempts.

    Raises:
        CaptureError: The last attempt failed, or `cancel` is set.
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
    """Raise `CaptureError` if `cancel` is set."""
    if cancel is not None and cancel.is_set():
        raise CaptureError("was not finished, because the run was stopped", where=where)
