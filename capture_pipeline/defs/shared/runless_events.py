"""Reports of events without a run, for data that other programs wrote.

A unique index of Dagster allows one evaluation without a run for each check and partition. Therefore the
earlier evaluation is removed from the table of executions before a new one is reported. Its event stays in
the event log.
"""

from collections.abc import Sequence

import dagster as dg
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable


def report_materialization(instance: dg.DagsterInstance, materialization: dg.AssetMaterialization) -> None:
    """Report a materialization that belongs to no run."""
    instance.report_runless_asset_event(materialization)


def report_evaluation(instance: dg.DagsterInstance, evaluation: dg.AssetCheckEvaluation) -> None:
    """Report an evaluation that belongs to no run; it replaces an earlier one without a run."""
    storage, rows = instance.event_log_storage, AssetCheckExecutionsTable.c
    if isinstance(storage, SqlEventLogStorage):
        is_earlier = [
            rows.asset_key == evaluation.asset_key.to_string(),
            rows.check_name == evaluation.check_name,
            rows.run_id == RUNLESS_RUN_ID,
            rows.partition.is_(None)
            if evaluation.partition is None
            else rows.partition == evaluation.partition,
        ]
        with storage.index_transaction() as connection:
            connection.execute(AssetCheckExecutionsTable.delete().where(*is_earlier))
    instance.report_runless_asset_event(evaluation)


def partitions_without_evaluation(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], partitions: Sequence[str]
) -> set[str]:
    """Return the partitions whose newest materialization lacks the evaluation of a check.

    Args:
        instance: Dagster instance.
        checks: Checks of one asset.
        partitions: Keys of materialized partitions.
    """
    if not partitions:
        return set()
    found = instance.event_log_storage.get_asset_check_partition_info(checks, partition_keys=partitions)
    evaluated = {(each.check_key, each.partition_key) for each in found if each.is_current}
    return {key for key in partitions if any((check, key) not in evaluated for check in checks)}
