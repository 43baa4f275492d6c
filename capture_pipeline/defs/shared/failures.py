"""How an error of the domain ends a step: what may pass by itself is tried again, what will not is told at once.

Bugs are neither: any other exception fails its step with its own traceback and is not tried again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NoReturn

import dagster as dg

from capture_pipeline.defs.shared import outputs
from capture_pipeline.errors import CaptureError, RateLimitedError, TransientError
from capture_pipeline.lake.paths import Partition

RETRIES = dg.RetryPolicy(max_retries=3, delay=5, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)
"""The one policy: about 5, 15 and 35 seconds, spread so that runs which failed together do not come back together."""
LONGEST_WAIT_S = 900.0


@contextmanager
def domain_errors_as_dagster(context: dg.OpExecutionContext) -> Iterator[None]:
    """Turn an error of the domain into a retry or a failure of the step.

    Args:
        context: Of the step; an asset's or a check's has it as `op_execution_context`.
    """
    try:
        yield
    except CaptureError as error:
        raise_retry_or_failure(context.retry_number, {}, error)


def may_retry(retries: int, *errors: CaptureError) -> bool:
    """Whether trying the step again can help and was not done often enough."""
    return retries < RETRIES.max_retries and any(isinstance(error, TransientError) for error in errors)


def raise_retry_or_failure(
    retries: int, failed: Mapping[Partition, CaptureError], *others: CaptureError
) -> NoReturn:
    """End the step, naming every partition that failed.

    Args:
        retries: How often it was tried before.
        failed: The error of each failed partition.
        others: Errors that belong to no partition.

    Raises:
        RetryRequested: At least one error is transient; waits as long as the exchange asks for.
        Failure: None is, or the retries are used up.
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
    asked = max((error.retry_after_s for error in errors if isinstance(error, RateLimitedError)), default=0.0)
    return min(LONGEST_WAIT_S, max(asked, RETRIES.calculate_delay(retries + 1)))


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
