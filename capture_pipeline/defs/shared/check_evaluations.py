"""Conversion of gate results to evaluations of asset checks, for one partition or a whole asset."""

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
from capture_pipeline.defs.shared.table_metadata import build_table

_SEVERITIES = {Severity.ERROR: dg.AssetCheckSeverity.ERROR, Severity.WARN: dg.AssetCheckSeverity.WARN}
_PER_QUERY = 500
"""Records read at once; Dagster returns at most 1,000."""


class NewestMaterializations:
    """Newest materializations of partitions. An evaluation refers to one, so the UI shows the checked state.

    The materializations of all partitions of an asset are read with the first request.
    """

    def __init__(self, instance: dg.DagsterInstance, partitions: Iterable[str] = ()) -> None:
        """Set the partitions; nothing is read yet.

        Args:
            instance: Instance with the materializations.
            partitions: Keys of all partitions that will be requested.
        """
        self._instance = instance
        self._partitions = sorted(set(partitions))
        self._by_partition = cache(self._fetch)

    def target(
        self, asset: str, partition: str | None
    ) -> AssetCheckEvaluationTargetMaterializationData | None:
        """Return the newest materialization of a partition, or of an unpartitioned asset, or None."""
        record = self.record(asset, partition)
        return _target(record) if record else None

    def record(self, asset: str, partition: str | None) -> dg.EventLogRecord | None:
        """Return the record of the newest materialization; None if there is none."""
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
    """An asset check that combines one or more gates of a table.

    Attributes:
        name: Name of the check.
        table: Name of the asset.
        gates: Gates of the check; all have the same severity, and all or none block.
    """

    name: str
    table: str
    gates: Sequence[GateSpec]

    @property
    def description(self) -> str:
        """The conditions under which the check passes."""
        return " ".join(gate.description for gate in self.gates)

    @property
    def severity(self) -> Severity:
        """Severity of all gates."""
        return self.gates[0].severity

    @property
    def blocking(self) -> bool:
        """True if a failure stops the downstream assets."""
        return all(gate.blocking and gate.severity is Severity.ERROR for gate in self.gates)


def group_gates(gates: Sequence[GateSpec]) -> dict[str, CheckSpec]:
    """Group the gates of a table into asset checks, by name of the check."""
    grouped: dict[str, list[GateSpec]] = {}
    for gate in gates:
        grouped.setdefault(gate.check or gate.name, []).append(gate)
    return {name: CheckSpec(name, each[0].table, each) for name, each in grouped.items()}


def build_evaluation(
    newest: NewestMaterializations,
    check: CheckSpec,
    results: Sequence[GateResult],
    key: dg.MultiPartitionKey | None,
) -> dg.AssetCheckEvaluation:
    """Build the evaluation of a check from the results of its gates.

    Args:
        newest: Contains the checked materialization.
        check: The check.
        results: Results of its gates.
        key: Partition of the results; None for the whole asset.
    """
    failed = [result for result in results if not result.passed]
    return outputs.check_evaluation(
        _metadata(results),
        "; ".join(_describe_failure(result, key) for result in failed) or None,
        check_name=check.name,
        asset_key=dg.AssetKey(check.table),
        passed=not failed,
        target_materialization_data=newest.target(check.table, key),
        severity=_SEVERITIES[check.severity],
        blocking=check.blocking,
        partition=key,
    )


def _describe_failure(result: GateResult, key: dg.MultiPartitionKey | None) -> str:
    where = f"{key}, " if key else ""
    file = f" ({result.file})" if result.file and result.file not in result.summary else ""
    return f"{where}{result.spec.name}: {result.summary or result.spec.description}{file}"


def _metadata(results: Sequence[GateResult]) -> dict[str, Any]:
    """Return figures, alert level and failing rows; the figures of several gates are grouped by gate."""
    failed = [result for result in results if not result.passed]
    if len(results) == 1:
        values = dict(_figures(results[0]))
    else:
        # All gates report the same number of rows, that of the file.
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
            values["failing_rows" if len(results) == 1 else f"failing_rows_{result.spec.name}"] = build_table(
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
