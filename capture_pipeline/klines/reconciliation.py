"""Comparison of the monthly file with the daily files and REST answers that were used before it arrived."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from capture_pipeline.binance.periods import iso
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.deployment.lake_guard import lock_partition
from capture_pipeline.errors import LakeError
from capture_pipeline.klines.bars import read_parts
from capture_pipeline.klines.merge import Part, merge
from capture_pipeline.lake.files import publish_model, read_model
from capture_pipeline.lake.paths import Partition

_MAX_DIFFERENCES = 1000


class Difference(BaseModel):
    """Field in which two sources of a bar differ: columns of `CONFLICTS`, and the open time as text."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    open_time_us: int
    field: str
    kept_source: str
    kept_value: Decimal
    kept_file: str
    other_source: str
    other_value: Decimal
    other_file: str
    open_time: str


class ReconciliationReport(BaseModel):
    """Comparison of the sources of one partition.

    Attributes:
        partition: Name of the partition.
        monthly_bars: Bars in the monthly file.
        daily_bars: Bars in daily files.
        rest_bars: Bars in REST answers.
        only_in_monthly: Bars that no other source contains; 0 if there is no other source.
        only_in_daily_or_rest: Bars that the monthly file lacks; 0 if there is no monthly file.
        compared: Bars that the monthly file and another source contain.
        differing_bars: Bars with at least one field that differs.
        differing_fields: Fields that differ, over all bars.
        differences: The first 1,000 fields that differ.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    partition: str
    monthly_bars: int
    daily_bars: int
    rest_bars: int
    only_in_monthly: int
    only_in_daily_or_rest: int
    compared: int
    differing_bars: int
    differing_fields: int
    differences: list[Difference]


@dataclass(frozen=True)
class Reconciliation:
    """The report of one partition.

    Attributes:
        partition: The partition.
        report: The comparison.
        path: File of the report, JSON.
    """

    partition: Partition
    report: ReconciliationReport
    path: Path


def reconcile_partition(deployment: Deployment, partition: Partition) -> Reconciliation:
    """Compare all sources of one partition, bar by bar, and publish the report.

    Args:
        partition: The partition.

    Raises:
        BusyError: Another run had the lock of this partition for `LOCK_TIMEOUT_S`.
        ConfigError: The lake belongs to another exchange.
        LakeError: A recorded raw file is missing or altered.
    """
    with lock_partition(deployment, partition):
        report = _compare(partition, read_parts(deployment, partition).rows.parts)
        path = deployment.lake.reconciliation(partition)
        publish_model(path, report)
    return Reconciliation(partition, report, path)


def _compare(partition: Partition, parts: list[Part]) -> ReconciliationReport:
    opens = {
        source: _collect_open_times([part for part in parts if part.source == source])
        for source in ("monthly", "daily", "rest")
    }
    monthly, others = opens["monthly"], opens["daily"] | opens["rest"]
    rows = list(merge(parts).conflicts.iter_rows(named=True)) if parts else []
    return ReconciliationReport(
        partition=str(partition),
        monthly_bars=len(monthly),
        daily_bars=len(opens["daily"]),
        rest_bars=len(opens["rest"]),
        only_in_monthly=len(monthly - others) if others else 0,
        only_in_daily_or_rest=len(others - monthly) if monthly else 0,
        compared=len(monthly & others),
        differing_bars=len({row["open_time_us"] for row in rows}),
        differing_fields=len(rows),
        differences=[
            Difference(**row, open_time=iso(row["open_time_us"])) for row in rows[:_MAX_DIFFERENCES]
        ],
    )


def load_reconciliation(deployment: Deployment, partition: Partition) -> Reconciliation:
    """Read the report of a partition that was published last.

    Raises:
        LakeError: The report is missing or damaged.
    """
    path = deployment.lake.reconciliation(partition)
    report = read_model(path, ReconciliationReport)
    if report is None:
        raise LakeError(
            "is missing",
            where=str(path),
            remedy="run `capture klines reconcile`, or materialize month_reconciliation",
        )
    return Reconciliation(partition, report, path)


def _collect_open_times(parts: list[Part]) -> set[int]:
    return {open_us for part in parts for open_us in part.rows["open_time_us"].to_list()}
