"""Conversion of checks and their results to Dagster's asset checks and evaluations."""

import warnings
from collections.abc import Iterable
from functools import cache
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from capture_pipeline.checks.model import CheckResult, CheckSpec, Severity, Verdict
from capture_pipeline.defs.shared import outputs

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


def build_check_spec(
    spec: CheckSpec,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    *,
    with_remedy: bool = False,
) -> dg.AssetCheckSpec:
    """Build the specification of an asset check.

    Args:
        spec: Specification of the check.
        partitions_def: Partitions of the asset; None for an unpartitioned asset.
        with_remedy: Add the remedy to the description.
    """
    description = f"{spec.description}: {spec.threshold}" if spec.threshold else spec.description
    with warnings.catch_warnings():
        # Partitioned checks are a preview feature in this version of Dagster; tests cover their use.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            spec.asset_check or spec.name,
            asset=spec.asset,
            description=f"{description}; otherwise {spec.remedy}" if with_remedy else description,
            blocking=spec.blocking,
            partitions_def=partitions_def,
            metadata={"severity": str(spec.severity)},
        )


def build_check_result(result: CheckResult) -> dg.AssetCheckResult:
    """Build the result of a check that judges a whole asset, or the partition of the run."""
    return outputs.check_result(result.figures, result.reason, **_build_fields(result))


def build_evaluation(
    result: CheckResult,
    target: AssetCheckEvaluationTargetMaterializationData | None,
    partition: str | None = None,
) -> dg.AssetCheckEvaluation:
    """Build the evaluation of a check.

    Args:
        result: Result of the check; its figures become metadata.
        target: Materialization that was judged.
        partition: Key of the partition; None for the whole asset.
    """
    return outputs.check_evaluation(
        result.figures,
        result.reason or None,
        **_build_fields(result),
        target_materialization_data=target,
        blocking=result.spec.blocking,
        partition=partition,
    )


def _build_fields(result: CheckResult) -> dict[str, Any]:
    """Return the fields that results and evaluations share. A skipped check passes with severity WARN."""
    spec = result.spec
    return {
        "check_name": spec.asset_check or spec.name,
        "asset_key": dg.AssetKey(spec.asset),
        "passed": result.passed,
        "severity": dg.AssetCheckSeverity.ERROR
        if spec.severity is Severity.ERROR and result.verdict is not Verdict.SKIPPED
        else dg.AssetCheckSeverity.WARN,
    }
