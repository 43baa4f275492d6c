"""The gates as asset checks: one step a table evaluates all its gates, one evaluation a partition and check.

A gate that breaks is an error of its step, never bad data. Dagster's own result type carries no partition, so a run over many partitions
yields the evaluations themselves.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg

from capture_pipeline.binance.periods import Month
from capture_pipeline.checks.gates import GateResult
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.check_evaluations import (
    CheckSpec,
    NewestMaterializations,
    check_specs,
    evaluation_of,
)
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.partitions import PARTITIONS, key_of, partitions_of
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.klines.quality.gates import check_gaps, check_lake
from capture_pipeline.klines.quality.row_gates import check_bars, list_gate_specs
from capture_pipeline.lake.paths import Partition

Event = dg.Output[None] | dg.AssetCheckEvaluation


@dataclass(frozen=True)
class Judge:
    """The gates of one table as asset checks of the asset of that name.

    Attributes:
        table: Which one.
        gates: Evaluates them over partitions, at a time in microseconds UTC.
    """

    table: str
    gates: Callable[[Workspace, Sequence[Partition], int], list[GateResult]]

    @cached_property
    def checks(self) -> dict[str, CheckSpec]:
        """The checks by name."""
        return check_specs([gate for gate in list_gate_specs() if gate.table == self.table])

    @property
    def check_keys(self) -> list[dg.AssetCheckKey]:
        """Their keys."""
        return [dg.AssetCheckKey(dg.AssetKey(self.table), name) for name in self.checks]


JUDGES = {
    judge.table: judge
    for judge in (
        Judge("bars", check_bars),
        Judge("bar_gaps", check_gaps),
        Judge("coverage_report", lambda workspace, _, now_us: check_lake(workspace, now_us)),
    )
}


def checks_of(table: str, partitions_def: dg.PartitionsDefinition[Any] | None) -> dg.AssetChecksDefinition:
    """All gates of one table as asset checks of the asset of that name.

    Args:
        table: Which one.
        partitions_def: Of the asset.
    """
    judge = JUDGES[table]
    specs = {name: _spec(check, partitions_def) for name, check in judge.checks.items()}

    @dg.multi_asset_check(
        name=f"{table}_checks",
        specs=list(specs.values()),
        can_subset=True,
        description=f"Evaluates the gates of {table}.",
    )
    def check(
        context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
    ) -> Iterator[Event]:
        with domain_errors_as_dagster(context.op_execution_context):
            partitions = partitions_of(workspace, _keys(context, table)) if partitions_def else []
            evaluations = evaluate(context.instance, workspace, judge, partitions, workspace.now_us())
        wanted = {key.name for key in context.selected_asset_check_keys}
        evaluations = [each for each in evaluations if each.check_name in wanted]
        yield from evaluations
        blocked = [each for each in evaluations if each.blocking and not each.passed]
        if blocked:
            # Dagster's own error names the checks alone.
            raise outputs.failure(
                f"{len(blocked)} blocking checks failed: {'; '.join(each.description or '' for each in blocked)}"
            )
        for name in dict.fromkeys(each.check_name for each in evaluations):
            yield dg.Output(None, output_name=specs[name].get_python_identifier())

    return check


def _keys(context: dg.AssetCheckExecutionContext, table: str) -> list[str]:
    """The partitions of the run; where checks are run alone and none was chosen, all that were ever made."""
    if context.has_partition_key or context.has_partition_key_range:
        return list(context.partition_keys)
    made = context.instance.get_materialized_partitions(dg.AssetKey(table))
    return [key for key in sorted(made) if PARTITIONS.has_partition_key(key)]


def evaluate(
    instance: dg.DagsterInstance,
    workspace: Workspace,
    judge: Judge,
    partitions: Sequence[Partition],
    now_us: int,
) -> list[dg.AssetCheckEvaluation]:
    """Return one evaluation a partition and check. Those that failed are last, because a check's page shows its latest one first.

    Args:
        instance: Contains the materializations that are judged.
        workspace: The deployment.
        judge: Of one table.
        partitions: Which ones; none for a table without partitions.
        now_us: The present.
    """
    grouped: dict[tuple[dg.MultiPartitionKey | None, str], list[GateResult]] = {}
    for result in judge.gates(workspace, partitions, now_us):
        key = (
            key_of(workspace.partition(result.symbol, Month.parse(result.month)))
            if result.symbol and result.month
            else None
        )
        grouped.setdefault((key, result.spec.check or result.spec.name), []).append(result)
    newest = NewestMaterializations(instance, [key for key, _ in grouped if key])
    evaluations = [
        evaluation_of(newest, judge.checks[name], each, key) for (key, name), each in grouped.items()
    ]
    return sorted(evaluations, key=lambda evaluation: not evaluation.passed)


def _spec(check: CheckSpec, partitions_def: dg.PartitionsDefinition[Any] | None) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Partitioned checks are a preview in this version; the project's tests guard what it relies on.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            check.name,
            asset=check.table,
            description=check.description,
            blocking=check.blocking,
            partitions_def=partitions_def,
            metadata={"severity": str(check.severity)},
        )


bars_checks = checks_of("bars", PARTITIONS)
gaps_checks = checks_of("bar_gaps", PARTITIONS)
coverage_checks = checks_of("coverage_report", None)
