"""Cache of the states of asset checks by partition, for Dagster's webserver.

For each request, Dagster computes the state of every check from all executions of the check; with 7,200
partitions this takes several seconds. The cache reads only partitions with events after the last request. The
states are those of Dagster: an execution counts if it checked the newest materialization, and a planned
execution takes the final status of its run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import dagster as dg
from dagster._core.asset_graph_view.serializable_entity_subset import SerializableEntitySubset
from dagster._core.storage import asset_check_state
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecordStatus,
    AssetCheckExecutionResolvedStatus,
    AssetCheckPartitionInfo,
)
from dagster._core.storage.asset_check_state import AssetCheckState
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from sqlalchemy import func, select

Key = tuple[dg.AssetCheckKey, dg.PartitionsDefinition[Any] | None]
_Status = AssetCheckExecutionResolvedStatus
_ENDS: Final = {
    AssetCheckExecutionRecordStatus.SUCCEEDED: _Status.SUCCEEDED,
    AssetCheckExecutionRecordStatus.FAILED: _Status.FAILED,
}
OVERLAP: Final = 1_000
"""Number of known events that are read again: in Postgres an event may become visible after one with a
greater id."""
MAX_AGE_S: Final = 600.0
"""A cached state is computed from all executions again after this time, to find changes without an event."""


@dataclass(frozen=True)
class Planned:
    """State of a partition whose newest execution has not ended.

    Attributes:
        run_id: Run of the execution.
    """

    run_id: str


@dataclass
class _CachedCheck:
    """Cached states of one check.

    Attributes:
        partitions: Partitions definition of the check.
        since_s: Time of the last read of all executions, monotonic clock.
        by_partition: State by partition key; the key is None for an asset without partitions.
        event: Id of the newest event at the last read of executions; None before the first read.
        state: Dagster's form of `by_partition`.
    """

    partitions: dg.PartitionsDefinition[Any] | None
    since_s: float
    by_partition: dict[str | None, _Status | Planned] = field(default_factory=dict)
    event: int | None = None
    state: AssetCheckState = field(default_factory=AssetCheckState.empty)


class CheckStates:
    """Cache of the states of checks, updated from the event log.

    All threads of a process use one object. It is for one Dagster instance.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Create an empty cache.

        Args:
            clock_s: Clock that measures the age of cached states, seconds.
        """
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._cached: dict[dg.AssetCheckKey, _CachedCheck] = {}
        self._executions = 0

    def update(
        self,
        instance: dg.DagsterInstance,
        keys: Sequence[Key],
        initial_states: Mapping[dg.AssetCheckKey, AssetCheckState],
    ) -> Mapping[dg.AssetCheckKey, AssetCheckState]:
        """Return the states of checks; replaces Dagster's `bulk_update_asset_check_state`.

        Args:
            instance: Instance with the event log.
            keys: Checks with their partitions.
            initial_states: Unused. Open-source Dagster stores no states.
        """
        del initial_states
        with self._lock:
            # The newest id is read before the executions: the next request reads events in between again.
            newest, executions = _newest_event_id(instance), _count_executions(instance)
            if executions < self._executions:
                self._cached.clear()  # assets were wiped
            self._executions = executions
            for key, partitions in keys:
                if not self._is_usable(key, partitions):
                    self._cached[key] = _CachedCheck(partitions, self._clock_s())
            self._read(instance, [key for key, _ in keys], newest)
            return {key: self._cached[key].state for key, _ in keys}

    def _is_usable(self, key: dg.AssetCheckKey, partitions: dg.PartitionsDefinition[Any] | None) -> bool:
        cached = self._cached.get(key)
        return (
            cached is not None
            and cached.partitions == partitions
            and self._clock_s() - cached.since_s < MAX_AGE_S
        )

    def _read(self, instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey], newest: int) -> None:
        is_known = cache(_is_known)
        changed = set()
        for start, some in self._group_outdated(keys, newest).items():
            for info in instance.event_log_storage.get_asset_check_partition_info(
                some, after_storage_id=start
            ):
                cached = self._cached[info.check_key]
                if is_known(cached.partitions, info.partition_key):
                    _set_state(cached.by_partition, info)
                    changed.add(info.check_key)
            for key in some:
                self._cached[key].event = newest
        for key in changed | self._end_planned(instance, keys):
            self._cached[key].state = _build_state(key, self._cached[key], newest)

    def _group_outdated(
        self, keys: Iterable[dg.AssetCheckKey], newest: int
    ) -> dict[int | None, list[dg.AssetCheckKey]]:
        """Group the checks that may have new executions by the event id to read from; None means all."""
        starts: dict[int | None, list[dg.AssetCheckKey]] = {}
        for key in keys:
            cached = self._cached[key]
            if cached.event == newest:
                continue
            # Dagster's query by event id does not find a new materialization of an asset without partitions.
            start = (
                None if cached.event is None or cached.partitions is None else max(0, cached.event - OVERLAP)
            )
            starts.setdefault(start, []).append(key)
        return starts

    def _end_planned(
        self, instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]
    ) -> set[dg.AssetCheckKey]:
        """Set planned executions whose run has ended to the result of the run; return the changed checks."""
        runs = {
            state.run_id
            for key in keys
            for state in self._cached[key].by_partition.values()
            if isinstance(state, Planned)
        }
        if not runs:
            return set()
        ended = instance.get_runs(dg.RunsFilter(run_ids=sorted(runs), statuses=list(FINISHED_STATUSES)))
        status = {run.run_id: run.status for run in ended}
        changed = set()
        for key in keys:
            states = self._cached[key].by_partition
            for partition, state in states.items():
                if isinstance(state, Planned) and state.run_id in status:
                    failed = status[state.run_id] == dg.DagsterRunStatus.FAILURE
                    states[partition] = _Status.EXECUTION_FAILED if failed else _Status.SKIPPED
                    changed.add(key)
        return changed


def _set_state(states: dict[str | None, _Status | Planned], info: AssetCheckPartitionInfo) -> None:
    """Set the state of a partition by its newest execution; none if that checked an old materialization."""
    if info.latest_execution_status == AssetCheckExecutionRecordStatus.PLANNED:
        states[info.partition_key] = Planned(info.latest_planned_run_id)
    elif info.is_current:
        states[info.partition_key] = _ENDS[info.latest_execution_status]
    else:
        states.pop(info.partition_key, None)


def _is_known(partitions: dg.PartitionsDefinition[Any] | None, key: str | None) -> bool:
    if partitions is None or key is None:
        return partitions is None and key is None
    return partitions.has_partition_key(key)


def _build_state(key: dg.AssetCheckKey, cached: _CachedCheck, event: int) -> AssetCheckState:
    by_status: dict[_Status, list[str | None]] = {status: [] for status in _Status}
    by_run: dict[str, list[str | None]] = {}
    for partition, state in cached.by_partition.items():
        if isinstance(state, Planned):
            by_status[_Status.IN_PROGRESS].append(partition)
            by_run.setdefault(state.run_id, []).append(partition)
        else:
            by_status[state].append(partition)

    def subset(found: Iterable[str | None]) -> SerializableEntitySubset[dg.AssetCheckKey]:
        if cached.partitions is None:
            return SerializableEntitySubset(key=key, value=bool(list(found)))
        return SerializableEntitySubset.from_coercible_value(
            key, [name for name in found if name is not None], cached.partitions
        )

    return AssetCheckState(
        latest_storage_id=event,
        subsets={status: subset(found) for status, found in by_status.items()},
        in_progress_runs={run: subset(found) for run, found in by_run.items()},
    )


def _newest_event_id(instance: dg.DagsterInstance) -> int:
    return instance.event_log_storage.get_maximum_record_id() or 0


def _count_executions(instance: dg.DagsterInstance) -> int:
    """Return the number of executions of all checks; it decreases only if assets are wiped."""
    storage: Any = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return 0
    with storage.index_connection() as connection:
        return int(
            connection.execute(select(func.count()).select_from(AssetCheckExecutionsTable)).scalar_one()
        )


def install() -> None:
    """Replace Dagster's function in this process by the cache."""
    asset_check_state.bulk_update_asset_check_state = CheckStates().update
