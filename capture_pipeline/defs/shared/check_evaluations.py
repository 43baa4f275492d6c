"""The results of the gates of one asset check as one evaluation, for one partition or for the whole asset."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from capture_pipeline.checks.gates import GateResult, GateSpec, Severity, worst_level
from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.table_metadata import table_of

_SEVERITIES = {Severity.ERROR: dg.AssetCheckSeverity.ERROR, Severity.WARN: dg.AssetCheckSeverity.WARN}
_PER_QUERY = 500
"""Dagster returns at most 1,000 records at once."""


class NewestMaterializations:
    """The newest materializations of the partitions that are judged: the UI shows which state of a partition an evaluation is about.

    One look-up an asset serves all partitions.
    """

    def __init__(self, instance: dg.DagsterInstance, partitions: Iterable[str] = ()) -> None:
        """Keep the instance.

        Args:
            instance: Contains the materializations.
            partitions: Keys of all that will be asked for.
        """
        self._instance = instance
        self._partitions = sorted(set(partitions))
        self._by_partition = cache(self._fetch)

    def of(self, asset: str, partition: str | None) -> AssetCheckEvaluationTargetMaterializationData | None:
        """Return the newest materialization of a partition, or of an asset without partitions; None where there is none."""
        record = self.record(asset, partition)
        return _target(record) if record else None

    def record(self, asset: str, partition: str | None) -> dg.EventLogRecord | None:
        """Return its record."""
        if partition is not None:
            return self._by_partition(asset).get(partition)
        records = self._instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
        return records[0] if records else None

    def _fetch(self, asset: str) -> dict[str, dg.EventLogRecord]:
        key = dg.AssetKey(asset)
        found: dict[str, dg.EventLogRecord] = {}
        for start in range(0, len(self._partitions), _PER_QUERY):
            some = set(self._partitions[start : start + _PER_QUERY])
            ids = self._instance.get_latest_storage_id_by_partition(
                key, dg.DagsterEventType.ASSET_MATERIALIZATION, some
            )
            if ids:
                wanted = dg.AssetRecordsFilter(key, storage_ids=list(ids.values()))
                records = self._instance.fetch_materializations(wanted, limit=len(ids)).records
                found.update({str(record.partition_key): record for record in records})
        return found


def _target(record: dg.EventLogRecord) -> AssetCheckEvaluationTargetMaterializationData:
    return AssetCheckEvaluationTargetMaterializationData(
        run_id=record.run_id, storage_id=record.storage_id, timestamp=record.timestamp
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
    newest: NewestMaterializations,
    check: CheckSpec,
    results: Sequence[GateResult],
    key: dg.MultiPartitionKey | None,
) -> dg.AssetCheckEvaluation:
    """The evaluation of a check.

    Args:
        newest: Contains the materialization that was judged.
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
        target_materialization_data=newest.of(check.table, key),
        severity=_SEVERITIES[check.severity],
        blocking=check.blocking,
        partition=key,
    )


def evaluation_of_result(
    newest: NewestMaterializations, asset: str, result: dg.AssetCheckResult
) -> dg.AssetCheckEvaluation:
    """Return the evaluation of a check of a whole asset, from the result that a run of the check would yield.

    Args:
        newest: Contains the materialization that was judged.
        asset: The asset.
        result: Names the check.
    """
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=str(result.check_name),
        passed=bool(result.passed),
        metadata=result.metadata,
        target_materialization_data=newest.of(asset, None),
        severity=result.severity,
        description=result.description,
        blocking=False,
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
        values = {
            name: value for result in results for name, value in result.values.items() if name == "rows"
        }
        values["gates"] = {result.spec.name: _verdict(result) for result in results}
    if failed:
        values["level"] = str(worst_level(failed))
    if count := sum(result.failing_count for result in failed):
        values["failing"] = count
    for result in failed:
        if result.failing is not None and result.failing.height:
            values["failing_rows" if len(results) == 1 else f"failing_rows_{result.spec.name}"] = table_of(
                result.failing
            )
    return values


def _figures(result: GateResult) -> Mapping[str, Any]:
    return {name: value for name, value in result.values.items() if value is not None}


def _verdict(result: GateResult) -> dict[str, Any]:
    figures = {name: value for name, value in _figures(result).items() if name != "rows"}
    if result.passed:
        return {"verdict": "passed", **figures}
    return {
        "verdict": "failed",
        "level": str(result.level),
        "failing": result.failing_count,
        "summary": result.summary,
        **figures,
    }
