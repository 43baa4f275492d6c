"""Sensor that reports files of the lake that other programs wrote.

The sensor reports materializations without a run, and the evaluations of their checks. It handles all
partitions in rounds; each tick is a part of a round. A round inspects partitions whose files changed since
the last round. It reports those whose newest materialization is older than the files and has different
metadata.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from capture_pipeline.binance.periods import SECOND_US
from capture_pipeline.defs.klines import coverage, result_metadata
from capture_pipeline.defs.klines.arrivals_cursor import Round
from capture_pipeline.defs.klines.checks import TABLE_CHECKS, TableChecks, evaluate
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.check_evaluations import NewestMaterializations
from capture_pipeline.defs.shared.partition_runner import MetadataByAsset
from capture_pipeline.defs.shared.partitions import MonthsAndSymbols, key_of, keys_of_run, loaded_partitions
from capture_pipeline.defs.shared.resources import with_short_timeouts
from capture_pipeline.defs.shared.runless_events import (
    partitions_without_evaluation,
    report_evaluation,
    report_materialization,
)
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError
from capture_pipeline.klines.quality.coverage_report import load_coverage_report
from capture_pipeline.klines.reconciliation import load_reconciliation
from capture_pipeline.klines.stored_results import (
    ChangeTimes,
    load_archives_result,
    load_bars_result,
    load_gaps_result,
    load_topups_result,
    read_change_times,
)
from capture_pipeline.lake.paths import Partition

MAX_PARTITIONS = 50
"""Maximum number of partitions that a tick reports."""
MAX_ROWS = 2_500_000
"""A tick ends after partitions with this many bars were reported: their checks read all bars."""
MAX_INSPECTED = 1_000
SETTLED_S = 300.0
"""An incomplete partition is reported after this time without a change: a program may still be working on
it."""
_STAGES = (("kline_archives", "kline_topups"), ("bars", "bar_conflicts", "bar_exclusions"), ("bar_gaps",))
_REPORT, _RECONCILIATION = "coverage_report", "month_reconciliation"
_ACTIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Every 30 s: reports the results of `capture klines backfill`, `capture klines "
    "topup`, `capture klines "
    "reconcile` and `capture klines coverage`, at most 50 partitions at a time: materializations with their "
    "metadata, and evaluations of their checks. Starts no run.",
)
def lake_arrivals(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SensorResult:
    """Process the next part of the round."""
    now_ns, state = time.time_ns(), Round.load(context.cursor)
    try:
        now_us = with_short_timeouts(deployment).now_us()
        loaded = loaded_partitions(context)
        tick = ArrivalsTick(context.instance, deployment, loaded, now_us, now_ns)
        partitions = deployment.partitions(deployment.settings.symbols, reversed(deployment.months(now_us)))
        known = [partition for partition in partitions if loaded.has_partition_key(key_of(partition))]
        next_state = tick.process_next(state, known)
    except CaptureError as error:
        return dg.SensorResult(
            skip_reason=outputs.skip(f"skipped until the next tick: {error}"), cursor=context.cursor
        )
    for partition, problem in tick.damaged.items():
        outputs.log_warning(context, f"{partition} is left out: {problem}")
    reason = (
        f"{tick.reported} partitions reported, {tick.postponed} in progress, {len(tick.damaged)} left out"
    )
    return dg.SensorResult(skip_reason=outputs.skip(reason), cursor=next_state.dump())


@dataclass
class ArrivalsTick:
    """One tick of the sensor.

    Attributes:
        instance: Dagster instance.
        deployment: The deployment.
        loaded: Partitions of the loaded definitions.
        now_us: Time at the exchange, microseconds UTC.
        now_ns: Time of this machine, nanoseconds UTC.
        reported: Number of reported partitions.
        postponed: Number of partitions that a run or a program is working on.
        damaged: Error by partition that cannot be read.
    """

    instance: dg.DagsterInstance
    deployment: Deployment
    loaded: MonthsAndSymbols
    now_us: int
    now_ns: int
    reported: int = 0
    postponed: int = 0
    damaged: dict[Partition, CaptureError] = field(default_factory=dict)

    def process_next(self, state: Round, partitions: Sequence[Partition]) -> Round:
        """Inspect the next partitions, report changed ones, and return the new state of the round.

        Args:
            state: State of the round after the last tick.
            partitions: All partitions, in the order of a round.

        Raises:
            CaptureError: The gates of a table could not be evaluated.
        """
        state = state.start(self.now_ns)
        inspected = partitions[state.position : state.position + MAX_INSPECTED]
        # Files are read before runs, and runs before materializations. A run that wrote one of these files is
        # then among the active runs, or its materialization is stored.
        stamps = {partition: read_change_times(self.deployment.lake, partition) for partition in inspected}
        changed = {
            partition: each for partition, each in stamps.items() if each.newest_ns >= max(1, state.since_ns)
        }
        active_keys = {
            key
            for run in self.instance.get_runs(dg.RunsFilter(statuses=_ACTIVE))
            for key in keys_of_run(self.loaded, run.tags)
        }
        newest = NewestMaterializations(self.instance, [str(key_of(partition)) for partition in changed])
        settled: list[Partition] = []
        rows, done = 0, len(inspected)
        for number, partition in enumerate(inspected):
            if self.reported >= MAX_PARTITIONS or rows >= MAX_ROWS:
                done = number
                break
            state = state.record_gaps(stamps[partition].gaps_ns)
            if partition not in changed:
                continue
            if str(key_of(partition)) in active_keys or self._is_unsettled(changed[partition]):
                self.postponed += 1
                state = state.postpone(changed[partition].newest_ns)
                continue
            settled.append(partition)
            if self._report(newest, partition, changed[partition]):
                self.reported += 1
                rows += partition.expected
        self._evaluate_checks(settled)
        state = state.advance(done)
        if state.position < len(partitions):
            return state
        if not state.has_postponed:
            self._report_coverage(state.newest_gaps_ns)
        return state.next_round()

    def _is_unsettled(self, stamps: ChangeTimes) -> bool:
        """Return True if derived files are missing or old, so that a program may still be working on them."""
        return not stamps.is_complete and self.now_ns - stamps.newest_ns < SETTLED_S * 1e9

    def _report(self, newest: NewestMaterializations, partition: Partition, stamps: ChangeTimes) -> bool:
        """Report changed assets of a partition and the assets downstream; return True if there are any."""
        key, is_new = key_of(partition), False
        materializations: list[dg.AssetMaterialization] = []
        try:
            for stage, changed_ns in enumerate(stamps.up_to_date_ns):
                if not is_new and all(
                    _is_known_since(newest, asset, key, changed_ns) for asset in _STAGES[stage]
                ):
                    continue
                events = [
                    outputs.partition_materialization(asset, key, values)
                    for asset, values in self._describe(stage, partition).items()
                ]
                is_new = is_new or any(
                    _differs(newest.record(event.asset_key.to_user_string(), key), event) for event in events
                )
                materializations += events if is_new else []
            if stamps.is_reconciled and not _is_known_since(
                newest, _RECONCILIATION, key, stamps.reconciliation_ns
            ):
                values = result_metadata.reconciliation(load_reconciliation(self.deployment, partition))[
                    _RECONCILIATION
                ]
                event = outputs.partition_materialization(_RECONCILIATION, key, values)
                if is_new or _differs(newest.record(_RECONCILIATION, key), event):
                    materializations.append(event)
        except CaptureError as error:
            self.damaged[partition] = error
            return False
        for event in materializations:
            report_materialization(self.instance, event)
        return bool(materializations)

    def _describe(self, stage: int, partition: Partition) -> MetadataByAsset:
        deployment = self.deployment
        if stage == 0:
            archives, topups = (
                load_archives_result(deployment, partition),
                load_topups_result(deployment, partition, self.now_us),
            )
            return {**result_metadata.archives(archives), **result_metadata.topups(topups)}
        if stage == 1:
            return result_metadata.bars(deployment, load_bars_result(deployment, partition))
        return result_metadata.gaps(deployment, load_gaps_result(deployment, partition))

    def _evaluate_checks(self, partitions: Sequence[Partition]) -> None:
        """Evaluate the checks of partitions whose newest materialization has no run and no evaluation.

        Dagster's storage is searched for these partitions, because an earlier tick may have ended before its
        evaluations.
        """
        by_key = {str(key_of(partition)): partition for partition in partitions}
        newest = NewestMaterializations(self.instance, by_key)
        for table, checks in TABLE_CHECKS.items():
            if table == _REPORT:
                continue
            keys = [
                key
                for key in by_key
                if (record := newest.record(table, key)) is not None and not record.run_id
            ]
            wanted = partitions_without_evaluation(self.instance, checks.check_keys, keys)
            self._report_evaluations(checks, [by_key[key] for key in keys if key in wanted])

    def _report_evaluations(self, checks: TableChecks, partitions: Sequence[Partition]) -> None:
        if partitions or checks.table == _REPORT:
            for evaluation in evaluate(self.instance, self.deployment, checks, partitions, self.now_us):
                report_evaluation(self.instance, evaluation)

    def _report_coverage(self, newest_gaps_ns: int) -> None:
        """Report the coverage report, unless a gap ledger is newer: then the automation builds a new one."""
        path = self.deployment.lake.reports() / "coverage.csv"
        changed_ns = path.stat().st_ctime_ns if path.is_file() else 0
        newest = NewestMaterializations(self.instance)
        if changed_ns < max(1, newest_gaps_ns) or _is_known_since(newest, _REPORT, None, changed_ns):
            return
        age_us = (self.now_ns - changed_ns) // 1000
        report = load_coverage_report(self.deployment, (self.now_us - age_us) // SECOND_US * SECOND_US)
        event = outputs.unpartitioned_materialization(
            _REPORT, coverage.describe_report(self.deployment, report)
        )
        if _differs(newest.record(_REPORT, None), event):
            report_materialization(self.instance, event)
            self._report_evaluations(TABLE_CHECKS[_REPORT], [])


def _is_known_since(newest: NewestMaterializations, asset: str, key: str | None, changed_ns: int) -> bool:
    """Return True if the newest materialization is not older than the files."""
    record = newest.record(asset, key)
    return record is not None and record.timestamp * 1e9 >= changed_ns


def _differs(record: dg.EventLogRecord | None, event: dg.AssetMaterialization) -> bool:
    """Return True if metadata differ from those of the newest materialization, except for values of a run."""
    known = record.asset_materialization if record is not None else None
    return known is None or _content(known.metadata) != _content(event.metadata)


def _content(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if name not in result_metadata.RUN_VALUES}
