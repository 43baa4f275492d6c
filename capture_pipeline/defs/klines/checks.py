"""Asset checks of klines.

Each table has one step. It evaluates all gates of the table and yields one evaluation for each partition and
check.
A gate that raises an error fails its step; this is not reported as bad data. Dagster's `AssetCheckResult` has
no partition, so the step yields `AssetCheckEvaluation`s.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg

from capture_pipeline.binance.periods import Month
from capture_pipeline.checks.klines import BARS, GAPS, REPORT, list_gates
from capture_pipeline.checks.model import CheckResult, CheckSpec, Verdict, combine_specs
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.check_evaluations import (
    NewestMaterializations,
    build_check_spec,
    build_evaluation,
)
from capture_pipeline.defs.shared.failures import domain_errors_as_dagster
from capture_pipeline.defs.shared.partitions import key_of, partitions_of
from capture_pipeline.defs.shared.table_metadata import build_table
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.quality.coverage_gates import check_gaps, check_lake
from capture_pipeline.klines.quality.gate_results import GateResult, find_worst_level
from capture_pipeline.klines.quality.row_gates import check_bars
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
        return combine_specs([gate for gate in list_gates() if gate.asset == self.table])

    @property
    def check_keys(self) -> list[dg.AssetCheckKey]:
        """Keys of the checks."""
        return [dg.AssetCheckKey(dg.AssetKey(self.table), name) for name in self.checks]


TABLE_CHECKS = {
    checks.table: checks
    for checks in (
        TableChecks(BARS, check_bars),
        TableChecks(GAPS, check_gaps),
        TableChecks(REPORT, lambda deployment, _, now_us: check_lake(deployment, now_us)),
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
    specs = {name: build_check_spec(check, partitions_def) for name, check in checks.checks.items()}

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
    """Return the partitions of the run; of a run without partitions, all materialized ones."""
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
    """Evaluate the checks of a table; return one evaluation for each partition and check.

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
        grouped.setdefault((key, result.spec.asset_check or result.spec.name), []).append(result)
    newest = NewestMaterializations(instance, [key for key, _ in grouped if key])
    evaluations = [
        build_evaluation(
            _combine_results(checks.checks[name], each, key), newest.target(checks.table, key), key
        )
        for (key, name), each in grouped.items()
    ]
    return sorted(evaluations, key=lambda evaluation: not evaluation.passed)


def _combine_results(
    check: CheckSpec, results: Sequence[GateResult], key: dg.MultiPartitionKey | None
) -> CheckResult:
    """Combine the results of the gates of an asset check; the figures are the metadata of its evaluation.

    Args:
        check: The asset check.
        results: Results of its gates.
        key: Partition of the results; None for the whole asset.
    """
    failed = [result for result in results if not result.passed]
    reason = "; ".join(_describe_failure(result, key) for result in failed)
    return CheckResult(check, Verdict.of(not failed), reason, _combine_figures(results, failed))


def _describe_failure(result: GateResult, key: dg.MultiPartitionKey | None) -> str:
    where = f"{key}, " if key else ""
    file = f" ({result.file})" if result.file and result.file not in result.reason else ""
    return f"{where}{result.spec.name}: {result.reason or result.spec.description}{file}"


def _combine_figures(results: Sequence[GateResult], failed: Sequence[GateResult]) -> dict[str, Any]:
    """Return figures, alert level and failing rows; the figures of several gates are grouped by gate."""
    is_single = len(results) == 1
    if is_single:
        figures = dict(_list_figures(results[0]))
    else:
        # All gates report the same number of rows, that of the file.
        figures = {
            name: value for result in results for name, value in result.figures.items() if name == "rows"
        }
        figures["gates"] = {result.spec.name: _describe_gate(result) for result in results}
    if failed:
        figures["level"] = str(find_worst_level(failed))
    if count := sum(result.failing_count for result in failed):
        figures["failing"] = count
    for result in failed:
        if result.failing is not None and result.failing.height:
            name = "failing_rows" if is_single else f"failing_rows_{result.spec.name}"
            figures[name] = build_table(result.failing)
    return figures


def _list_figures(result: GateResult) -> Mapping[str, Any]:
    return {name: value for name, value in result.figures.items() if value is not None}


def _describe_gate(result: GateResult) -> dict[str, Any]:
    figures = {name: value for name, value in _list_figures(result).items() if name != "rows"}
    if result.passed:
        return {"verdict": "passed", **figures}
    return {
        "verdict": "failed",
        "level": str(result.level),
        "failing": result.failing_count,
        "summary": result.reason,
        **figures,
    }
