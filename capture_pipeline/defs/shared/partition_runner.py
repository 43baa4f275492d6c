"""Loop over the partitions of a step.

A failed partition does not stop the others; each good partition gets a materialization.

A step returns one result per asset, from which Dagster creates a materialization for each partition of the
run; metadata of a partition are added before. A step that fails returns no result; in this case the runner
records the good partitions itself.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, TypeVar

import dagster as dg

from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster, may_retry, raise_retry_or_failure
from capture_pipeline.defs.shared.partitions import check_tags, key_of, partitions_of
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError
from capture_pipeline.lake.paths import Partition, PartitionOutcome

MetadataByAsset = Mapping[str, Mapping[str, Any]]
"""Metadata of one partition by asset name."""
T = TypeVar("T")
Results = Generator[PartitionOutcome[T], None, None]
PROGRESS_INTERVAL_S = 5.0
"""Seconds between two progress lines in the log of a run. Each line is a row of the event log."""


def run_partitions(
    context: dg.AssetExecutionContext,
    deployment: Deployment,
    results: Callable[[Sequence[Partition]], Results[T]],
    describe: Callable[[T], MetadataByAsset],
) -> Iterator[dg.MaterializeResult[Any]]:
    """Process the partitions of this run and report each.

    Args:
        context: Context of the step.
        results: Processes the partitions and yields the result or the error of each.
        describe: Returns the metadata of a result by asset.

    Yields:
        One result per asset, from which Dagster creates a materialization for each partition.

    Raises:
        Failure: Partitions failed with permanent errors, or the step has no retries left; the others are
            recorded.
        RetryRequested: At least one error is transient and the step has retries left.
    """
    with domain_errors_as_dagster(context.op_execution_context):
        check_tags(context.run.tags)
        partitions = partitions_of(deployment, context.partition_keys)
    done: dict[Partition, MetadataByAsset] = {}
    failed: dict[Partition, CaptureError] = {}
    logged_s = time.monotonic()
    # If the run is stopped, the generator is closed at once, which ends its downloads and threads.
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
                summary = _summarize(done[partition]) if partition in done else "failed"
                outputs.log_info(
                    context,
                    f"{finished} of {len(partitions)} partitions; the last one is {partition}: {summary}",
                )
    if failed:
        _raise_failed(context, done, failed)
    yield from _materialize(context, done)


def sequentially(work: Callable[[Partition], T]) -> Callable[[Sequence[Partition]], Results[T]]:
    """Return a function that calls `work` for each partition and returns a `CaptureError` as its result."""

    def results(partitions: Sequence[Partition]) -> Results[T]:
        for partition in partitions:
            try:
                yield PartitionOutcome(partition, work(partition))
            except CaptureError as error:
                yield PartitionOutcome(partition, error)

    return results


def _materialize(
    context: dg.AssetExecutionContext, done: Mapping[Partition, MetadataByAsset]
) -> Iterator[dg.MaterializeResult[Any]]:
    for partition, described in done.items():
        for asset, metadata in described.items():
            outputs.add_metadata(context, metadata, asset, key_of(partition))
    for asset in dict.fromkeys(name for described in done.values() for name in described):
        yield outputs.materialization(asset=asset)


def _raise_failed(
    context: dg.AssetExecutionContext,
    done: Mapping[Partition, MetadataByAsset],
    failed: Mapping[Partition, CaptureError],
) -> None:
    """Raise a retry or a failure; record the good partitions first if the step fails."""
    retries = context.op_execution_context.retry_number
    if not may_retry(retries, *failed.values()):
        for partition, described in done.items():
            for asset, metadata in described.items():
                context.log_event(outputs.partition_materialization(asset, key_of(partition), metadata))
    raise_retry_or_failure(retries, failed)


def _summarize(described: MetadataByAsset) -> str:
    """Return the non-zero numbers in the metadata of the first asset, for the log."""
    values = next(iter(described.values()), {})
    return ", ".join(
        f"{name.removeprefix('dagster/partition_')} {value:,}"
        for name, value in values.items()
        if isinstance(value, int | float) and value
    )
