"""Files of the lake that no run of Dagster made: they are reported as materializations without a run, with the evaluations of their checks.

A partition is looked at where its files changed since the last round over all partitions. It is reported where the newest materialization
is older than the files and says something else. Each tick does a bounded part of a round.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from capture_pipeline.binance.periods import SECOND_US
from capture_pipeline.defs.klines import coverage, describe
from capture_pipeline.defs.klines.arrivals_cursor import Round
from capture_pipeline.defs.klines.checks import JUDGES, Judge, evaluate
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.check_evaluations import NewestMaterializations
from capture_pipeline.defs.shared.partition_runner import Described
from capture_pipeline.defs.shared.partitions import PARTITIONS, key_of, keys_of_run
from capture_pipeline.defs.shared.resources import with_short_timeouts
from capture_pipeline.defs.shared.runless import report_evaluation, report_materialization, unjudged
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import CaptureError
from capture_pipeline.klines.quality.measure import load_coverage_report
from capture_pipeline.klines.reconcile import load_reconciliation
from capture_pipeline.klines.recorded import (
    ChangeTimes,
    load_archives_result,
    load_bars_result,
    load_gaps_result,
    load_topups_result,
    read_change_times,
)
from capture_pipeline.lake.paths import Partition

MOST_PARTITIONS = 50
"""Reported in a tick."""
MOST_ROWS = 2_500_000
"""Bars of the partitions that are reported in a tick: their checks read them."""
MOST_LOOKS = 1_000
SETTLED_S = 300.0
"""A partition that a program left incomplete is reported after this time without a change."""
_STAGES = (("kline_archives", "kline_topups"), ("bars", "bar_conflicts", "bar_exclusions"), ("bar_gaps",))
_CHAIN = [asset for assets in _STAGES for asset in assets]
_REPORT, _RECONCILIATION = "coverage_report", "month_reconciliation"
_AT_WORK = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.sensor(
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reports what `capture backfill`, `capture topup`, `capture reconcile` and `capture coverage` made: materializations "
    "with their metadata, and the evaluations of their checks; at most 50 partitions every 30 seconds. It starts no run.",
)
def lake_arrivals(
    context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.SensorResult:
    """Do the next part of the round."""
    now_ns, at = time.time_ns(), Round.load(context.cursor)
    try:
        now_us = with_short_timeouts(workspace).now_us()
        look = Look(context.instance, workspace, now_us, now_ns)
        partitions = workspace.partitions(workspace.settings.symbols, reversed(workspace.months(now_us)))
        known = [partition for partition in partitions if PARTITIONS.has_partition_key(key_of(partition))]
        after = look.go_on(at, known)
    except CaptureError as error:
        return dg.SensorResult(
            skip_reason=outputs.skip(f"cannot be decided now: {error}"), cursor=context.cursor
        )
    for partition, problem in look.damaged.items():
        outputs.log_warning(context, f"{partition} is left out: {problem}")
    reason = f"{look.reported} partitions reported, {look.postponed} being made, {len(look.damaged)} left out"
    return dg.SensorResult(skip_reason=outputs.skip(reason), cursor=after.dump())


@dataclass
class Look:
    """One tick.

    Attributes:
        instance: Of Dagster.
        workspace: The deployment.
        now_us: The exchange's time.
        now_ns: The time of this machine.
        reported: Partitions that were reported.
        postponed: Partitions that are being made.
        damaged: Partitions that cannot be read, and why.
    """

    instance: dg.DagsterInstance
    workspace: Workspace
    now_us: int
    now_ns: int
    reported: int = 0
    postponed: int = 0
    damaged: dict[Partition, CaptureError] = field(default_factory=dict)

    def go_on(self, at: Round, partitions: Sequence[Partition]) -> Round:
        """Look at the next partitions, report those that Dagster does not know, and return where to go on.

        Args:
            at: Where the last tick ended.
            partitions: All, in the order of a round.

        Raises:
            CaptureError: The evaluations of checks could not be made.
        """
        at = at.begun(self.now_ns)
        looked = partitions[at.position : at.position + MOST_LOOKS]
        # Files are looked at before runs, and runs before materializations: a run that made a file is then under way or has recorded it.
        stamps = {partition: read_change_times(self.workspace.lake, partition) for partition in looked}
        changed = {
            partition: each for partition, each in stamps.items() if each.newest_ns >= max(1, at.since_ns)
        }
        at_work = {
            key
            for run in self.instance.get_runs(dg.RunsFilter(statuses=_AT_WORK))
            for key in keys_of_run(run.tags)
        }
        newest = NewestMaterializations(self.instance, [str(key_of(partition)) for partition in changed])
        seen: list[Partition] = []
        rows, done = 0, len(looked)
        for number, partition in enumerate(looked):
            if self.reported >= MOST_PARTITIONS or rows >= MOST_ROWS:
                done = number
                break
            at = at.seen(stamps[partition].gaps_ns)
            if partition not in changed:
                continue
            if str(key_of(partition)) in at_work or self._is_unsettled(changed[partition]):
                self.postponed += 1
                at = at.postponed(changed[partition].newest_ns)
                continue
            seen.append(partition)
            if self._report(newest, partition, changed[partition]):
                self.reported += 1
                rows += partition.expected
        self._judge(seen)
        at = at.moved(done)
        if at.position < len(partitions):
            return at
        if not at.is_waiting:
            self._report_coverage(at.newest_gaps_ns)
        return at.ended()

    def _is_unsettled(self, stamps: ChangeTimes) -> bool:
        """Whether a program may still be at work: what follows from the files that it changed last is not there yet."""
        return not stamps.is_complete and self.now_ns - stamps.newest_ns < SETTLED_S * 1e9

    def _report(self, newest: NewestMaterializations, partition: Partition, stamps: ChangeTimes) -> bool:
        """Report what Dagster does not know of a partition, and all that was made from it."""
        key, is_new = key_of(partition), False
        made: list[dg.AssetMaterialization] = []
        try:
            for stage, changed_ns in enumerate(stamps.up_to_date_ns):
                if not is_new and all(
                    _is_known_since(newest, asset, key, changed_ns) for asset in _STAGES[stage]
                ):
                    continue
                events = [
                    outputs.partition_materialization(asset, key, values)
                    for asset, values in self._described(stage, partition).items()
                ]
                is_new = is_new or any(
                    _says_else(newest.record(event.asset_key.to_user_string(), key), event)
                    for event in events
                )
                made += events if is_new else []
            if stamps.is_reconciled and not _is_known_since(
                newest, _RECONCILIATION, key, stamps.reconciliation_ns
            ):
                values = describe.reconciliation(load_reconciliation(self.workspace, partition))[
                    _RECONCILIATION
                ]
                event = outputs.partition_materialization(_RECONCILIATION, key, values)
                made += [event] if is_new or _says_else(newest.record(_RECONCILIATION, key), event) else []
        except CaptureError as error:
            self.damaged[partition] = error
            return False
        for event in made:
            report_materialization(self.instance, event)
        return bool(made)

    def _described(self, stage: int, partition: Partition) -> Described:
        workspace = self.workspace
        if stage == 0:
            archives, topups = (
                load_archives_result(workspace, partition),
                load_topups_result(workspace, partition, self.now_us),
            )
            return {**describe.archives(archives), **describe.topups(topups)}
        if stage == 1:
            return describe.bars(workspace, load_bars_result(workspace, partition))
        return describe.gaps(workspace, load_gaps_result(workspace, partition))

    def _judge(self, partitions: Sequence[Partition]) -> None:
        """Evaluate the checks of partitions whose newest materialization has no run and was not judged.

        They are looked up, and not those that were just reported: a tick may have ended before its evaluations.
        """
        by_key = {str(key_of(partition)): partition for partition in partitions}
        newest = NewestMaterializations(self.instance, by_key)
        for table, judge in JUDGES.items():
            if table == _REPORT:
                continue
            keys = [
                key
                for key in by_key
                if (record := newest.record(table, key)) is not None and not record.run_id
            ]
            wanted = unjudged(self.instance, judge.check_keys, keys)
            self._report_evaluations(judge, [by_key[key] for key in keys if key in wanted])

    def _report_evaluations(self, judge: Judge, partitions: Sequence[Partition]) -> None:
        if partitions or judge.table == _REPORT:
            for evaluation in evaluate(self.instance, self.workspace, judge, partitions, self.now_us):
                report_evaluation(self.instance, evaluation)

    def _report_coverage(self, newest_gaps_ns: int) -> None:
        """Report the coverage report where it was made after every gap ledger. Where it was not, the automation makes it."""
        path = self.workspace.lake.reports() / "coverage.csv"
        changed_ns = path.stat().st_ctime_ns if path.is_file() else 0
        newest = NewestMaterializations(self.instance)
        if changed_ns < max(1, newest_gaps_ns) or _is_known_since(newest, _REPORT, None, changed_ns):
            return
        age_us = (self.now_ns - changed_ns) // 1000
        made = load_coverage_report(self.workspace, (self.now_us - age_us) // SECOND_US * SECOND_US)
        event = outputs.whole_materialization(_REPORT, coverage.described(self.workspace, made))
        if _says_else(newest.record(_REPORT, None), event):
            report_materialization(self.instance, event)
            self._report_evaluations(JUDGES[_REPORT], [])


def _is_known_since(newest: NewestMaterializations, asset: str, key: str | None, changed_ns: int) -> bool:
    """Whether Dagster has a materialization that is as new as the files."""
    record = newest.record(asset, key)
    return record is not None and record.timestamp * 1e9 >= changed_ns


def _says_else(record: dg.EventLogRecord | None, event: dg.AssetMaterialization) -> bool:
    """Whether a materialization says something else than the newest one; what is of a run or of a moment does not count."""
    known = record.asset_materialization if record is not None else None
    return known is None or dict(_content(known.metadata)) != dict(_content(event.metadata))


def _content(values: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    return ((name, value) for name, value in values.items() if name not in describe.OF_A_RUN)
