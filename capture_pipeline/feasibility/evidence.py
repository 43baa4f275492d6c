"""What an asset measured, kept as a file: the latest and all before it, each with the files that it was measured on.

reports/feasibility/replay_benchmark.json            the latest
reports/feasibility/runs/replay_benchmark/<time>.json  every one
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from capture_pipeline.feasibility.criteria import CRITERIA, Criterion, Verdict
from capture_pipeline.lake.files import publish_model, read_model, sha256_file


class Reading(BaseModel):
    """A criterion as it was measured.

    Attributes:
        criterion: Its name.
        measured: In the criterion's unit; None where it could not be measured.
        note: How, or why not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    criterion: str
    measured: float | None
    note: str = ""


class Evidence(BaseModel):
    """One measurement of an asset.

    Attributes:
        asset: Its name.
        measured_us: When, microseconds UTC.
        inputs: SHA-256 by file (or by the description of a generated input) that it was measured on.
        readings: What it says of the criteria.
        figures: Every number worth plotting, by name.
        details: Tables and distributions, for pages.
        text: The tables as Markdown; empty where a page of its own shows them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    asset: str
    measured_us: int
    inputs: dict[str, str]
    readings: list[Reading]
    figures: dict[str, float]
    details: dict[str, Any] = {}
    text: str = ""

    def reading(self, criterion: Criterion) -> Reading:
        """What it says of a criterion."""
        found = next((one for one in self.readings if one.criterion == criterion.name), None)
        return found or Reading(criterion=criterion.name, measured=None, note="not measured")

    def measured(self) -> list[tuple[Criterion, float | None]]:
        """Return each criterion with its measured value, None where it could not be measured."""
        by_name = {criterion.name: criterion for criterion in CRITERIA}
        return [(by_name[one.criterion], one.measured) for one in self.readings]

    @property
    def failed(self) -> list[str]:
        """Titles of the criteria that do not hold."""
        return [
            criterion.title
            for criterion, measured in self.measured()
            if criterion.verdict(measured) is not Verdict.PASS
        ]


def new_evidence(
    asset: str,
    readings: list[Reading],
    figures: dict[str, float],
    inputs: dict[str, str],
    details: dict[str, Any] | None = None,
    *,
    text: str = "",
) -> Evidence:
    """Return evidence that was measured now; see `Evidence` for the arguments."""
    return Evidence(
        asset=asset,
        measured_us=time.time_ns() // 1000,
        inputs=inputs,
        readings=readings,
        figures=figures,
        details=details or {},
        text=text,
    )


class EvidenceStore:
    """The evidence of a deployment."""

    def __init__(self, reports: Path) -> None:
        """Keep where.

        Args:
            reports: Folder of reports (`Lake.reports()`).
        """
        self.folder = reports / "feasibility"

    def path(self, asset: str) -> Path:
        """The latest of an asset, whether it is there or not."""
        return self.folder / f"{asset}.json"

    def publish(self, evidence: Evidence) -> Path:
        """Keep it, as the latest and among all.

        Returns:
            The file of the latest.

        Raises:
            StorageError: The disk refuses.
        """
        stamp = datetime.fromtimestamp(evidence.measured_us / 1e6, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        publish_model(self.folder / "runs" / evidence.asset / f"{stamp}.json", evidence)
        path = self.path(evidence.asset)
        publish_model(path, evidence)
        return path

    def latest(self, asset: str) -> tuple[Evidence, str] | None:
        """The latest evidence of an asset and the SHA-256 of its file, None where there is none.

        Raises:
            LakeError: It is damaged.
        """
        path = self.path(asset)
        found = read_model(path, Evidence)
        return None if found is None else (found, sha256_file(path))

    def before(self, asset: str, figure: str, most: int = 10) -> float | None:
        """The median of a figure over the runs before the latest on inputs of the same names, None where there were none.

        Raises:
            LakeError: One of them is damaged.
        """
        paths = sorted((self.folder / "runs" / asset).glob("*.json"))
        runs = [found for path in paths if (found := read_model(path, Evidence)) is not None]
        alike = (
            [found for found in runs[:-1] if found.inputs.keys() == runs[-1].inputs.keys()] if runs else []
        )
        values = [found.figures[figure] for found in alike if figure in found.figures][-most:]
        return statistics.median(values) if values else None
