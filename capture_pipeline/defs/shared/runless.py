"""Events that belong to no run: what another program made, as Dagster's pages show it.

Dagster stores one evaluation without a run for each check and partition, and a second one violates a unique index. The earlier one is
removed from the table of executions first: it was about an earlier materialization. Its event stays in the event log.
"""

from collections.abc import Sequence

import dagster as dg
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable


def report_materialization(instance: dg.DagsterInstance, materialization: dg.AssetMaterialization) -> None:
    """Report a materialization."""
    instance.report_runless_asset_event(materialization)


def report_evaluation(instance: dg.DagsterInstance, evaluation: dg.AssetCheckEvaluation) -> None:
    """Report the evaluation of a check in place of an earlier one that belongs to no run."""
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


def unjudged(
    instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey], partitions: Sequence[str]
) -> set[str]:
    """Return the partitions of which a check was never evaluated for the newest materialization.

    Args:
        instance: Of Dagster.
        checks: Of one asset.
        partitions: Keys that were materialized.
    """
    if not partitions:
        return set()
    found = instance.event_log_storage.get_asset_check_partition_info(checks, partition_keys=partitions)
    judged = {(each.check_key, each.partition_key) for each in found if each.is_current}
    return {key for key in partitions if any((check, key) not in judged for check in checks)}
