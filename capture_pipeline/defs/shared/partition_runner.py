"""The partitions of one step: each is worked on whatever becomes of the others, and each gets a materialization of its own.

Dagster makes one materialization a partition of the run from the one result that a step returns; what was added for a partition beforehand
is that one's metadata. A step that fails returns nothing, so only then are the good partitions recorded by hand.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

import dagster as dg

from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster, may_retry, raise_retry_or_failure
from capture_pipeline.defs.shared.partitions import check_tags, key_of, partitions_of
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import CaptureError
from capture_pipeline.lake.paths import Partition

Described = Mapping[str, Mapping[str, Any]]
"""Metadata by asset name, for one partition."""
T = TypeVar("T")
Results = Generator[tuple[Partition, T | CaptureError], None, None]
PROGRESS_INTERVAL_S = 5.0
"""Seconds between two lines of progress in the log of a run; each line is a row of the event log."""


def run_partitions(
    context: dg.AssetExecutionContext,
    workspace: Workspace,
    results: Callable[[Sequence[Partition]], Results[T]],
    describe: Callable[[T], Described],
) -> Iterator[dg.MaterializeResult[Any]]:
    """Work through the partitions of this run and report each.

    Args:
        context: Of the step.
        workspace: The deployment.
        results: Does the work and yields what became of each partition.
        describe: Metadata of one result, by asset.

    Yields:
        One result an asset, from which Dagster makes one materialization a partition.

    Raises:
        Failure: Some partitions failed and trying again will not help; the others are recorded.
        RetryRequested: Trying again may help.
    """
    with domain_errors_as_dagster(context.op_execution_context):
        check_tags(context.run.tags)
        partitions = partitions_of(workspace, context.partition_keys)
    done: dict[Partition, Described] = {}
    failed: dict[Partition, CaptureError] = {}
    logged_s = time.monotonic()
    # Closed at once when the run is stopped, wherever it stands then: the work behind it ends with it.
    with domain_errors_as_dagster(context.op_execution_context), closing(results(partitions)) as each:
        for partition, result in each:
            if isinstance(result, CaptureError):
                failed[partition] = result
                outputs.log_warning(context, f"{partition}: {result}")
            else:
                done[partition] = describe(result)
            finished = len(done) + len(failed)
            if finished == len(partitions) or time.monotonic() - logged_s >= PROGRESS_INTERVAL_S:
                logged_s = time.monotonic()
                words = _in_words(done[partition]) if partition in done else "failed"
                outputs.log_info(
                    context,
                    f"{finished} of {len(partitions)} partitions; the last one is {partition}: {words}",
                )
    if failed:
        _end(context, done, failed)
    yield from _all(context, done)


def sequentially(work: Callable[[Partition], T]) -> Callable[[Sequence[Partition]], Results[T]]:
    """Do the work for each partition in turn; an error of the domain becomes its result."""

    def results(partitions: Sequence[Partition]) -> Results[T]:
        for partition in partitions:
            try:
                yield partition, work(partition)
            except CaptureError as error:
                yield partition, error

    return results


def _all(
    context: dg.AssetExecutionContext, done: Mapping[Partition, Described]
) -> Iterator[dg.MaterializeResult[Any]]:
    for partition, described in done.items():
        for asset, metadata in described.items():
            outputs.add_metadata(context, metadata, asset, key_of(partition))
    for asset in dict.fromkeys(name for described in done.values() for name in described):
        yield outputs.materialization(asset=asset)


def _end(
    context: dg.AssetExecutionContext,
    done: Mapping[Partition, Described],
    failed: Mapping[Partition, CaptureError],
) -> None:
    """Fail or ask for a retry; before failing, what is good is recorded, since a step that fails reports nothing."""
    retries = context.op_execution_context.retry_number
    if not may_retry(retries, *failed.values()):
        for partition, described in done.items():
            for asset, metadata in described.items():
                context.log_event(outputs.partition_materialization(asset, key_of(partition), metadata))
    raise_retry_or_failure(retries, failed)


def _in_words(described: Described) -> str:
    """The numbers of the first asset's metadata, for the log."""
    numbers = next(iter(described.values()), {})
    words = {name.removeprefix("dagster/partition_"): value for name, value in numbers.items()}
    return ", ".join(
        f"{name} {value:,}" for name, value in words.items() if isinstance(value, int | float) and value
    )
