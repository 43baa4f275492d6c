"""Asset checks of klines.

One step a table evaluates all gates of the table and yields one evaluation a partition and check.
A gate that raises an error fails its step; this is not reported as bad data. Dagster's `AssetCheckResult` has
no partition, so the step yields `AssetCheckEvaluation`s.
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
    build_evaluation,
    group_gates,
)
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.partitions import key_of, partitions_of
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.quality.coverage_gates import check_gaps, check_lake
from capture_pipeline.klines.quality.row_gates import check_bars, list_gate_specs
from capture_pipeline.lake.paths import Partition

Event = dg.Output[None] | dg.AssetCheckEvaluation


@dataclass(frozen=True)
class TableChecks:
    """The asset checks of a table.

    Attributes:
        table: Name of the table and of its asset.
        evaluate_gates: Evaluates the gates of partitions at a time, microseconds UTC.
    """

    table: str
    evaluate_gates: Callable[[Deployment, Sequence[Partition], int], list[GateResult]]

    @cached_property
    def checks(self) -> dict[str, CheckSpec]:
        """Checks by name."""
        return group_gates([gate for gate in list_gate_specs() if gate.table == self.table])

    @property
    def check_keys(self) -> list[dg.AssetCheckKey]:
        """Keys of the checks."""
        return [dg.AssetCheckKey(dg.AssetKey(self.table), name) for name in self.checks]


TABLE_CHECKS = {
    checks.table: checks
    for checks in (
        TableChecks("bars", check_bars),
        TableChecks("bar_gaps", check_gaps),
        TableChecks("coverage_report", lambda deployment, _, now_us: check_lake(deployment, now_us)),
    )
}


def build_checks(partitions: dg.PartitionsDefinition[Any]) -> list[dg.AssetChecksDefinition]:
    """Build the definitions of the asset checks of all tables.

    Args:
        partitions: Partitions of the assets; the coverage report has none.
    """
    return [
        _build_table_checks(table, None if table == "coverage_report" else partitions)
        for table in TABLE_CHECKS
    ]


def _build_table_checks(
    table: str, partitions_def: dg.PartitionsDefinition[Any] | None
) -> dg.AssetChecksDefinition:
    """Build the definition of the asset checks of a table.

    Args:
        table: Name of the table and of its asset.
        partitions_def: Partitions of the asset; None for an unpartitioned asset.
    """
    checks = TABLE_CHECKS[table]
    specs = {name: _spec(check, partitions_def) for name, check in checks.checks.items()}

    @dg.multi_asset_check(
        name=f"{table}_checks",
        specs=list(specs.values()),
        can_subset=True,
        description=f"Evaluates the gates of {table}.",
    )
    def check(
        context: dg.AssetCheckExecutionContext, deployment: dg.ResourceParam[Deployment]
    ) -> Iterator[Event]:
        with domain_errors_as_dagster(context.op_execution_context):
            partitions = (
                partitions_of(deployment, _partition_keys(context, table, partitions_def))
                if partitions_def
                else []
            )
            evaluations = evaluate(context.instance, deployment, checks, partitions, deployment.now_us())
        wanted = {key.name for key in context.selected_asset_check_keys}
        evaluations = [each for each in evaluations if each.check_name in wanted]
        yield from evaluations
        blocked = [each for each in evaluations if each.blocking and not each.passed]
        if blocked:
            # Dagster's own error has only the names of the checks.
            reasons = "; ".join(each.description or "" for each in blocked)
            raise outputs.failure(f"{len(blocked)} blocking checks failed: {reasons}")
        for name in dict.fromkeys(each.check_name for each in evaluations):
            yield dg.Output(None, output_name=specs[name].get_python_identifier())

    return check


def _partition_keys(
    context: dg.AssetCheckExecutionContext, table: str, partitions: dg.PartitionsDefinition[Any]
) -> list[str]:
    """Return the partitions of the run; without any, all materialized partitions."""
    if context.has_partition_key or context.has_partition_key_range:
        return list(context.partition_keys)
    keys = context.instance.get_materialized_partitions(dg.AssetKey(table))
    return [key for key in sorted(keys) if partitions.has_partition_key(key)]


def evaluate(
    instance: dg.DagsterInstance,
    deployment: Deployment,
    checks: TableChecks,
    partitions: Sequence[Partition],
    now_us: int,
) -> list[dg.AssetCheckEvaluation]:
    """Evaluate the checks of a table and return one evaluation a partition and check.

    Failed evaluations are last in the list, because the page of a check shows the latest evaluation first.

    Args:
        instance: Instance with the checked materializations.
        checks: Checks of the table.
        partitions: Partitions to check; empty for a table without partitions.
        now_us: The present, microseconds UTC.
    """
    grouped: dict[tuple[dg.MultiPartitionKey | None, str], list[GateResult]] = {}
    for result in checks.evaluate_gates(deployment, partitions, now_us):
        key = (
            key_of(deployment.partition(result.symbol, Month.parse(result.month)))
            if result.symbol and result.month
            else None
        )
        grouped.setdefault((key, result.spec.check or result.spec.name), []).append(result)
    newest = NewestMaterializations(instance, [key for key, _ in grouped if key])
    evaluations = [
        build_evaluation(newest, checks.checks[name], each, key) for (key, name), each in grouped.items()
    ]
    return sorted(evaluations, key=lambda evaluation: not evaluation.passed)


def _spec(check: CheckSpec, partitions_def: dg.PartitionsDefinition[Any] | None) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Partitioned checks are a preview feature in this version of Dagster; tests cover their use.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            check.name,
            asset=check.table,
            description=check.description,
            blocking=check.blocking,
            partitions_def=partitions_def,
            metadata={"severity": str(check.severity)},
        )
