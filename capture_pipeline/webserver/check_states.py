"""The states of asset checks by partition, kept by the webserver between requests.

Dagster derives the state of every check from all its executions each time that a page asks, and joins two sets for each partition: at
7,200 partitions that takes several seconds. Here only partitions with events newer than the last request are read. What a state means
stays Dagster's: an execution counts if it judged the newest materialization, and a planned one takes the end of its run.
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
"""Events before the newest known one that are read again: in Postgres an event may appear after one with a greater number."""
LONGEST_S: Final = 600.0
"""A kept state is derived from all executions again after this time, for changes that make no event and remove no execution."""


@dataclass(frozen=True)
class Planned:
    """An execution that has not ended.

    Attributes:
        run_id: Of its run.
    """

    run_id: str


@dataclass
class _Kept:
    """What is known of one check.

    Attributes:
        partitions: The partitions for which it was derived.
        since_s: When all executions were read, on the monotonic clock.
        by_partition: State by partition key; None for an asset without partitions.
        event: Number of the newest event when executions were last read; None before the first time.
        state: Made from `by_partition`.
    """

    partitions: dg.PartitionsDefinition[Any] | None
    since_s: float
    by_partition: dict[str | None, _Status | Planned] = field(default_factory=dict)
    event: int | None = None
    state: AssetCheckState = field(default_factory=AssetCheckState.empty)


class CheckStates:
    """States of checks, updated from the event log.

    One object serves all threads of a process and one Dagster instance.
    """

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet.

        Args:
            clock_s: Returns the time in seconds, to measure the age of a kept state.
        """
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._kept: dict[dg.AssetCheckKey, _Kept] = {}
        self._executions = 0

    def update(
        self,
        instance: dg.DagsterInstance,
        keys: Sequence[Key],
        initial_states: Mapping[dg.AssetCheckKey, AssetCheckState],
    ) -> Mapping[dg.AssetCheckKey, AssetCheckState]:
        """Return the states of checks; takes the place of Dagster's `bulk_update_asset_check_state`.

        Args:
            instance: Contains the events.
            keys: Checks with their partitions.
            initial_states: States from the storage. Open-source Dagster keeps none, so they are not used.
        """
        del initial_states
        with self._lock:
            # Read before the executions, so that an event in between is read again by the next request.
            newest, executions = _newest_event(instance), _count_executions(instance)
            if executions < self._executions:
                self._kept.clear()  # assets were wiped
            self._executions = executions
            for key, partitions in keys:
                if not self._is_usable(key, partitions):
                    self._kept[key] = _Kept(partitions, self._clock_s())
            self._read(instance, [key for key, _ in keys], newest)
            return {key: self._kept[key].state for key, _ in keys}

    def _is_usable(self, key: dg.AssetCheckKey, partitions: dg.PartitionsDefinition[Any] | None) -> bool:
        kept = self._kept.get(key)
        return (
            kept is not None and kept.partitions == partitions and self._clock_s() - kept.since_s < LONGEST_S
        )

    def _read(self, instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey], newest: int) -> None:
        is_known = cache(_is_known)
        changed = set()
        for start, some in self._unread(keys, newest).items():
            for info in instance.event_log_storage.get_asset_check_partition_info(
                some, after_storage_id=start
            ):
                kept = self._kept[info.check_key]
                if is_known(kept.partitions, info.partition_key):
                    _note(kept.by_partition, info)
                    changed.add(info.check_key)
            for key in some:
                self._kept[key].event = newest
        for key in changed | self._end_planned(instance, keys):
            self._kept[key].state = _state_of(key, self._kept[key], newest)

    def _unread(
        self, keys: Iterable[dg.AssetCheckKey], newest: int
    ) -> dict[int | None, list[dg.AssetCheckKey]]:
        """Group the checks that may have newer executions by the event after which they are read; None for all of them."""
        starts: dict[int | None, list[dg.AssetCheckKey]] = {}
        for key in keys:
            kept = self._kept[key]
            if kept.event == newest:
                continue
            # Dagster's query by event does not find a new materialization of an asset without partitions.
            start = None if kept.event is None or kept.partitions is None else max(0, kept.event - OVERLAP)
            starts.setdefault(start, []).append(key)
        return starts

    def _end_planned(
        self, instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]
    ) -> set[dg.AssetCheckKey]:
        """Give planned executions whose run is over the end of that run; return the checks concerned."""
        runs = {
            state.run_id
            for key in keys
            for state in self._kept[key].by_partition.values()
            if isinstance(state, Planned)
        }
        if not runs:
            return set()
        over = instance.get_runs(dg.RunsFilter(run_ids=sorted(runs), statuses=list(FINISHED_STATUSES)))
        status = {run.run_id: run.status for run in over}
        changed = set()
        for key in keys:
            states = self._kept[key].by_partition
            for partition, state in states.items():
                if isinstance(state, Planned) and state.run_id in status:
                    failed = status[state.run_id] == dg.DagsterRunStatus.FAILURE
                    states[partition] = _Status.EXECUTION_FAILED if failed else _Status.SKIPPED
                    changed.add(key)
        return changed


def _note(states: dict[str | None, _Status | Planned], info: AssetCheckPartitionInfo) -> None:
    """Replace the state of a partition by that of its newest execution; one of an earlier materialization says nothing."""
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


def _state_of(key: dg.AssetCheckKey, kept: _Kept, event: int) -> AssetCheckState:
    by_status: dict[_Status, list[str | None]] = {status: [] for status in _Status}
    by_run: dict[str, list[str | None]] = {}
    for partition, state in kept.by_partition.items():
        if isinstance(state, Planned):
            by_status[_Status.IN_PROGRESS].append(partition)
            by_run.setdefault(state.run_id, []).append(partition)
        else:
            by_status[state].append(partition)

    def subset(found: Iterable[str | None]) -> SerializableEntitySubset[dg.AssetCheckKey]:
        if kept.partitions is None:
            return SerializableEntitySubset(key=key, value=bool(list(found)))
        return SerializableEntitySubset.from_coercible_value(
            key, [name for name in found if name is not None], kept.partitions
        )

    return AssetCheckState(
        latest_storage_id=event,
        subsets={status: subset(found) for status, found in by_status.items()},
        in_progress_runs={run: subset(found) for run, found in by_run.items()},
    )


def _newest_event(instance: dg.DagsterInstance) -> int:
    return instance.event_log_storage.get_maximum_record_id() or 0


def _count_executions(instance: dg.DagsterInstance) -> int:
    """Return the number of executions of all checks; it falls only where assets are wiped."""
    storage: Any = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return 0
    with storage.index_connection() as connection:
        return int(
            connection.execute(select(func.count()).select_from(AssetCheckExecutionsTable)).scalar_one()
        )


def install() -> None:
    """Let this process keep the states of checks."""
    asset_check_state.bulk_update_asset_check_state = CheckStates().update
