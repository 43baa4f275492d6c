"""Conversion of domain errors to Dagster's retries and failures.

A step with a transient error is retried; a step with permanent errors fails at once. All other exceptions are
bugs: they fail the step with their traceback, without a retry.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import dagster as dg

from capture_pipeline.defs.shared import outputs
from capture_pipeline.errors import CaptureError, RateLimitedError, TransientError
from capture_pipeline.lake.paths import Partition

RETRIES = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""Policy of all steps: retries about 5, 15 and 35 seconds after the failure, with jitter so that failed runs
do not all retry at the same time."""
MAX_WAIT_S = 900.0


@contextmanager
def domain_errors_as_dagster(context: dg.OpExecutionContext) -> Iterator[None]:
    """Turn a domain error inside the `with` block into a retry or a failure of the step.

    Args:
        context: Context of the step; contexts of assets and checks have it as `op_execution_context`.
    """
    try:
        yield
    except CaptureError as error:
        raise_retry_or_failure(context.retry_number, {}, error)


def may_retry(retries: int, *errors: CaptureError) -> bool:
    """Return True if an error is transient and the step has retries left."""
    return retries < RETRIES.max_retries and any(isinstance(error, TransientError) for error in errors)


def raise_retry_or_failure(
    retries: int, failed: Mapping[Partition, CaptureError], *others: CaptureError
) -> NoReturn:
    """End the step with an error that names every failed partition.

    Args:
        retries: Number of retries so far.
        failed: Error by failed partition.
        others: Errors that belong to no partition.

    Raises:
        RetryRequested: At least one error is transient and the step has retries left. The wait is that of the
            policy, or longer if the exchange requires it.
        Failure: All errors are permanent, or the step has no retries left.
    """
    errors = [*failed.values(), *others]
    lines = [f"{partition}: {error}" for partition, error in failed.items()] + [
        str(error) for error in others
    ]
    failure = outputs.failure(
        f"{len(errors)} failed: {'; '.join(lines)}" if failed else lines[0],
        {"failed": outputs.table([_row(partition, error) for partition, error in failed.items()], _SCHEMA)}
        if failed
        else {},
    )
    if may_retry(retries, *errors):
        raise dg.RetryRequested(
            max_retries=RETRIES.max_retries, seconds_to_wait=_wait_s(retries, errors)
        ) from failure
    raise failure


def _wait_s(retries: int, errors: list[CaptureError]) -> float:
    required = max(
        (error.retry_after_s for error in errors if isinstance(error, RateLimitedError)), default=0.0
    )
    return min(MAX_WAIT_S, max(required, RETRIES.calculate_delay(retries + 1)))


_SCHEMA = dg.TableSchema(
    [
        dg.TableColumn("partition"),
        dg.TableColumn("error"),
        dg.TableColumn("kind"),
        dg.TableColumn("may_pass", "bool"),
    ]
)


def _row(partition: Partition, error: CaptureError) -> dict[str, object]:
    return {
        "partition": partition,
        "error": error,
        "kind": type(error).__name__,
        "may_pass": isinstance(error, TransientError),
    }
