"""Evidence: the result of an asset's measurement, stored as a file with the digests of its inputs.

reports/feasibility/replay_benchmark.json              the latest result
reports/feasibility/runs/replay_benchmark/<time>.json  every result
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from capture_pipeline.checks.feasibility import CRITERIA, Criterion
from capture_pipeline.checks.model import CheckResult
from capture_pipeline.lake.files import publish_model, read_model, sha256_file


class Reading(BaseModel):
    """Measured value of a criterion.

    Attributes:
        criterion: Name of the criterion.
        measured: Value in the criterion's unit; None if it could not be measured.
        note: Details of the measurement, or the reason why it is missing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    criterion: str
    measured: float | None
    note: str = ""


class Evidence(BaseModel):
    """One measurement of an asset.

    Attributes:
        asset: Name of the asset.
        measured_us: Time of the measurement, microseconds UTC.
        inputs: SHA-256 of the inputs, by file name or by the description of a generated input.
        readings: Values of the criteria.
        figures: Numbers for plots, by name.
        details: Tables and distributions, for pages.
        text: The tables as Markdown; empty if the asset has a page.
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
        """Return the value of a criterion; a reading without a value if the evidence does not contain it."""
        found = next((one for one in self.readings if one.criterion == criterion.name), None)
        return found or Reading(criterion=criterion.name, measured=None, note="not measured")

    def judge(self, criterion: Criterion) -> CheckResult:
        """Return the result of a criterion; its verdict is UNKNOWN without a value."""
        reading = self.reading(criterion)
        return criterion.judge(reading.measured, reading.note)

    @property
    def criteria(self) -> list[Criterion]:
        """Criteria with a reading."""
        by_name = {criterion.name: criterion for criterion in CRITERIA}
        return [by_name[one.criterion] for one in self.readings]

    @property
    def failed(self) -> list[str]:
        """Descriptions of the criteria that are not passed."""
        return [each.description for each in self.criteria if not self.judge(each).passed]


class StoredEvidence(NamedTuple):
    """Evidence with the SHA-256 of its file."""

    evidence: Evidence
    sha256: str


def new_evidence(
    asset: str,
    readings: list[Reading],
    figures: dict[str, float],
    inputs: dict[str, str],
    details: dict[str, Any] | None = None,
    *,
    text: str = "",
) -> Evidence:
    """Build evidence with the present time; see `Evidence` for the arguments."""
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
    """Store of a deployment's evidence."""

    def __init__(self, reports: Path) -> None:
        """Open the store.

        Args:
            reports: Folder of reports (`Lake.reports()`).
        """
        self.folder = reports / "feasibility"

    def path(self, asset: str) -> Path:
        """Return the path of an asset's latest evidence; the file may be missing."""
        return self.folder / f"{asset}.json"

    def publish(self, evidence: Evidence) -> Path:
        """Store evidence, as the latest and among all of its asset.

        Returns:
            The path of the latest evidence.

        Raises:
            StorageError: A file cannot be written.
        """
        stamp = datetime.fromtimestamp(evidence.measured_us / 1e6, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        publish_model(self.folder / "runs" / evidence.asset / f"{stamp}.json", evidence)
        path = self.path(evidence.asset)
        publish_model(path, evidence)
        return path

    def latest(self, asset: str) -> StoredEvidence | None:
        """Load the latest evidence of an asset; None if there is no evidence.

        Raises:
            LakeError: The file of the evidence is damaged.
        """
        path = self.path(asset)
        found = read_model(path, Evidence)
        return None if found is None else StoredEvidence(found, sha256_file(path))

    def before(self, asset: str, figure: str, most: int = 10) -> float | None:
        """Compute the median of a figure over earlier runs with the same names of inputs.

        Args:
            asset: Name of the asset.
            figure: Name of the figure.
            most: Maximum number of earlier runs.

        Returns:
            None without such a run.

        Raises:
            LakeError: A file of evidence is damaged.
        """
        paths = sorted((self.folder / "runs" / asset).glob("*.json"))
        runs = [found for path in paths if (found := read_model(path, Evidence)) is not None]
        similar = (
            [found for found in runs[:-1] if found.inputs.keys() == runs[-1].inputs.keys()] if runs else []
        )
        values = [found.figures[figure] for found in similar if figure in found.figures][-most:]
        return statistics.median(values) if values else None
