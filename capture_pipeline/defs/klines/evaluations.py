"""The results of the gates of one asset check as one evaluation, for one partition or for the whole asset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from capture_pipeline.defs import outputs
from capture_pipeline.defs.tables import table_of
from capture_pipeline.quality.gates import GateResult, GateSpec, Severity, worst

_SEVERITIES = {Severity.ERROR: dg.AssetCheckSeverity.ERROR, Severity.WARN: dg.AssetCheckSeverity.WARN}


class Judged:
    """The newest materialization of what was judged, so that the UI knows which state of it a verdict is about; looked up once each."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        """Keep the instance that knows."""
        self._instance = instance
        self.newest = cache(self._newest)

    def _newest(self, asset: str, key: str | None) -> AssetCheckEvaluationTargetMaterializationData | None:
        wanted = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[key] if key else None)
        records = self._instance.fetch_materializations(wanted, limit=1).records
        if not records:
            return None
        return AssetCheckEvaluationTargetMaterializationData(
            run_id=records[0].run_id, storage_id=records[0].storage_id, timestamp=records[0].timestamp
        )


@dataclass(frozen=True)
class CheckSpec:
    """An asset check of the gates of one table.

    Attributes:
        name: Of the check.
        table: The asset that it is on.
        gates: At least one; all of one severity, and all blocking or none.
    """

    name: str
    table: str
    gates: Sequence[GateSpec]

    @property
    def description(self) -> str:
        """What holds where the check passes."""
        return " ".join(gate.description for gate in self.gates)

    @property
    def severity(self) -> Severity:
        """Of all gates."""
        return self.gates[0].severity

    @property
    def blocking(self) -> bool:
        """Whether a failure stops what lies downstream."""
        return all(gate.blocking and gate.severity is Severity.ERROR for gate in self.gates)


def check_specs(gates: Sequence[GateSpec]) -> dict[str, CheckSpec]:
    """The asset checks of the gates of one table, by name.

    Args:
        gates: In order.
    """
    grouped: dict[str, list[GateSpec]] = {}
    for gate in gates:
        grouped.setdefault(gate.check or gate.name, []).append(gate)
    return {name: CheckSpec(name, each[0].table, each) for name, each in grouped.items()}


def evaluation_of(
    judged: Judged, check: CheckSpec, results: Sequence[GateResult], key: dg.MultiPartitionKey | None
) -> dg.AssetCheckEvaluation:
    """The evaluation of a check.

    Args:
        judged: Knows the materialization that was judged.
        check: Which check.
        results: Of its gates.
        key: Their partition; None for the whole asset.
    """
    failed = [result for result in results if not result.passed]
    return outputs.check_evaluation(
        _values(results),
        "; ".join(_failure(result, key) for result in failed) or None,
        check_name=check.name,
        asset_key=dg.AssetKey(check.table),
        passed=not failed,
        target_materialization_data=judged.newest(check.table, key),
        severity=_SEVERITIES[check.severity],
        blocking=check.blocking,
        partition=key,
    )


def _failure(result: GateResult, key: dg.MultiPartitionKey | None) -> str:
    """Name partition, gate, finding and file."""
    where = f"{key}, " if key else ""
    file = f" ({result.file})" if result.file and result.file not in result.summary else ""
    return f"{where}{result.spec.name}: {result.summary or result.spec.description}{file}"


def _values(results: Sequence[GateResult]) -> dict[str, Any]:
    """Figures, level and failing rows: of a single gate one by one, of several by gate."""
    failed = [result for result in results if not result.passed]
    if len(results) == 1:
        values = dict(_figures(results[0]))
    else:
        # The number of rows is that of the file, whichever gate counted them.
        values = {name: value for result in results for name, value in result.values.items() if name == "rows"}
        values["gates"] = {result.spec.name: _verdict(result) for result in results}
    if failed:
        values["level"] = str(worst(failed))
    if count := sum(result.failing_count for result in failed):
        values["failing"] = count
    for result in failed:
        if result.failing is not None and result.failing.height:
            values["failing_rows" if len(results) == 1 else f"failing_rows_{result.spec.name}"] = table_of(result.failing)
    return values


def _figures(result: GateResult) -> Mapping[str, Any]:
    return {name: value for name, value in result.values.items() if value is not None}


def _verdict(result: GateResult) -> dict[str, Any]:
    figures = {name: value for name, value in _figures(result).items() if name != "rows"}
    if result.passed:
        return {"verdict": "passed", **figures}
    return {"verdict": "failed", "level": str(result.level), "failing": result.failing_count, "summary": result.summary, **figures}
