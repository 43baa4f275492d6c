"""One result of a gate as one evaluation of a check, for one partition or for the whole asset."""

from functools import cache
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from capture_pipeline.defs import outputs
from capture_pipeline.defs.tables import table_of
from capture_pipeline.quality.gates import GateResult, Severity

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


def evaluation_of(judged: Judged, result: GateResult, key: dg.MultiPartitionKey | None) -> dg.AssetCheckEvaluation:
    """The evaluation that tells a result.

    Args:
        judged: Knows the materialization that was judged.
        result: Of a gate.
        key: Its partition; None for the whole asset.
    """
    gate = result.spec
    return outputs.check_evaluation(
        _values(result),
        gate.description if result.passed else result.summary or gate.description,
        check_name=gate.name,
        asset_key=dg.AssetKey(gate.table),
        passed=result.passed,
        target_materialization_data=judged.newest(gate.table, key),
        severity=_SEVERITIES[gate.severity],
        blocking=gate.blocking,
        partition=key,
    )


def _values(result: GateResult) -> dict[str, Any]:
    told = {name: value for name, value in result.values.items() if value is not None}
    if not result.passed:
        told["level"] = str(result.level)
    if result.failing_count:
        told["failing"] = result.failing_count
    if result.failing is not None and result.failing.height:
        told["failing_rows"] = table_of(result.failing)
    return told
