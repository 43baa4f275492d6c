"""Removal of old runs and of old files in quarantine. Raw files and bars are never removed."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage

from capture_pipeline.lake.files import storage_errors

DAY_S = 86_400
_PAGE = 500


def find_old_runs(instance: dg.DagsterInstance, days: int) -> list[str]:
    """Return the ids of finished runs older than `days` that have no newest materialization of a partition.

    The deletion of a run deletes its events. Without its newest materialization a partition would look as if
    it had never been materialized.
    """
    finished = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    before = dg.RunsFilter(statuses=finished, created_before=datetime.now(UTC) - timedelta(days=days))
    needed = find_needed_runs(instance)
    return [
        record.dagster_run.run_id
        for record in instance.get_run_records(before)
        if record.dagster_run.run_id not in needed
    ]


def find_needed_runs(instance: dg.DagsterInstance) -> set[str]:
    """Return the ids of runs that have the newest materialization of an asset or of one of its partitions."""
    needed: set[str] = set()
    for asset in instance.get_asset_keys():
        newest = instance.get_latest_materialization_event(asset)
        needed |= {newest.run_id} if newest else set()
        ids = set(
            instance.get_latest_storage_id_by_partition(
                asset, dg.DagsterEventType.ASSET_MATERIALIZATION
            ).values()
        )
        ordered = sorted(ids)
        for start in range(0, len(ordered), _PAGE):
            wanted = dg.AssetRecordsFilter(asset, storage_ids=ordered[start : start + _PAGE])
            needed |= {
                record.run_id for record in instance.fetch_materializations(wanted, limit=_PAGE).records
            }
    return needed


def delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete a run with its events and its compute logs.

    Dagster itself keeps the compute logs, and the emptied sqlite file of the run's events.
    """
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        shard = Path(storage.path_for_shard(run_id))
        for path in (shard, *(shard.with_name(shard.name + ending) for ending in ("-wal", "-shm"))):
            path.unlink(missing_ok=True)


def delete_old_quarantine(root: Path, days: int) -> int:
    """Delete quarantined zip files older than `days`; their reasons and their manifest records are kept.

    Args:
        root: Folder of the quarantine.
        days: Smallest age of a deleted file.

    Returns:
        The number of deleted files.

    Raises:
        StorageError: A file cannot be deleted.
    """
    old = [
        path
        for path in root.rglob("*.zip")
        if path.is_file() and path.stat().st_mtime < time.time() - days * DAY_S
    ]
    for path in old:
        with storage_errors(path):
            path.unlink(missing_ok=True)
    return len(old)
