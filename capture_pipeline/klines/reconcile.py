"""When a monthly file has arrived: what differs between it and the daily files and REST answers that stood in for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from capture_pipeline.binance.periods import iso
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.klines.bars import separated_parts
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.lake.paths import Partition
from capture_pipeline.tables.merge import CONFLICT_SCHEMA, Part, merge

_SHOWN = 1000


@dataclass(frozen=True)
class Reconciliation:
    """What differs in one partition.

    Attributes:
        partition: Which one.
        differences: A frame of `CONFLICT_SCHEMA`: fields on which two sources disagree.
        summary: Counts: bars by source, bars that only one source has, fields that differ.
        path: Where the report lies as JSON.
    """

    partition: Partition
    differences: pl.DataFrame
    summary: dict[str, Any]
    path: Path


def reconcile(workspace: Workspace, partition: Partition) -> Reconciliation:
    """Compare all sources of one partition, bar by bar, and publish the report.

    Args:
        workspace: The deployment.
        partition: Which one.

    Raises:
        LakeError: A recorded file is gone or altered.
    """
    parts = separated_parts(workspace, partition)[0].parts
    opens = {source: _opens([part for part in parts if part.source == source]) for source in ("monthly", "daily", "rest")}
    others = opens["daily"] | opens["rest"]
    differences = merge(parts).conflicts if parts else pl.DataFrame(schema=CONFLICT_SCHEMA)
    summary: dict[str, Any] = {f"{source}_bars": len(times) for source, times in opens.items()}
    summary |= {
        "only_in_monthly": len(opens["monthly"] - others) if others else 0,
        "only_in_daily_or_rest": len(others - opens["monthly"]) if opens["monthly"] else 0,
        "compared": len(opens["monthly"] & others),
        "differing_bars": differences["open_time_us"].n_unique(),
        "differing_fields": differences.height,
    }
    path = (
        workspace.lake.reports() / "reconciliation" / f"{partition.market}-{partition.interval}-{partition.symbol}-{partition.month}.json"
    )
    rows = [{**row, "open_time": iso(row["open_time_us"])} for row in differences.head(_SHOWN).iter_rows(named=True)]
    document = {"partition": str(partition), **summary, "differences": rows}
    publish_bytes(path, (json.dumps(document, indent=1, default=str) + "\n").encode())
    return Reconciliation(partition, differences, summary, path)


def _opens(parts: list[Part]) -> set[int]:
    return {open_us for part in parts for open_us in part.rows["open_time_us"].to_list()}
