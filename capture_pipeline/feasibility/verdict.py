"""Verdict: the results of all criteria from the latest evidence, with the digests of the evidence."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from capture_pipeline.checks.feasibility import CRITERIA, Criterion
from capture_pipeline.checks.model import Verdict
from capture_pipeline.feasibility.evidence import EvidenceStore, StoredEvidence
from capture_pipeline.lake.files import publish_bytes, publish_model

_MIN_WHOLE = 1000


class Overall(StrEnum):
    """Result of all criteria together."""

    GO = "Go"
    CONDITIONAL = "Conditional"
    NO_GO = "No-Go"
    NOT_JUDGED = "Not judged"
    """A criterion was not measured, and no criterion without a mitigation fails."""


class CriterionResult(BaseModel):
    """Result of one criterion.

    Attributes:
        criterion: Name of the criterion.
        title: Title for readers.
        asset: Name of the asset that measures the criterion.
        threshold: Bound, number and unit as text.
        unit: Unit of `measured`.
        measured: Measured value; None without one.
        verdict: Result.
        margin: Factor between value and threshold, see `Threshold.margin`.
        measured_us: Time of the measurement, microseconds UTC; None without evidence.
        note: Details of the measurement, or the reason why it is missing.
        mitigation: Action if the criterion fails; empty if there is none.
        is_covered: The criterion is not measurable because another one fails, and the mitigation of that one
            is sufficient.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    criterion: str
    title: str
    asset: str
    threshold: str
    unit: str
    measured: float | None
    verdict: Verdict
    margin: float | None
    measured_us: int | None
    note: str
    mitigation: str
    is_covered: bool = False


class EvidenceRef(BaseModel):
    """Reference to evidence.

    Attributes:
        asset: Name of the asset that measured it.
        file: Path below the folder of reports.
        sha256: SHA-256 of the file.
        inputs: SHA-256 of the inputs, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    asset: str
    file: str
    sha256: str
    inputs: dict[str, str]


class GoNoGo(BaseModel):
    """The verdict.

    Attributes:
        overall: Result of all criteria.
        reasons: Sentences about the criteria that are not passed: first failures without a mitigation, then
            criteria that were not measured.
        judged_us: Time of the verdict, microseconds UTC.
        criteria: Results of all criteria.
        evidence: References to the evidence of the verdict.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    overall: Overall
    reasons: list[str]
    judged_us: int
    criteria: list[CriterionResult]
    evidence: list[EvidenceRef]


def evaluate_criteria(store: EvidenceStore) -> GoNoGo:
    """Compare the latest evidence with the criteria.

    Raises:
        LakeError: A file of evidence is damaged.
    """
    found = {asset: store.latest(asset) for asset in dict.fromkeys(criterion.asset for criterion in CRITERIA)}
    results = [_evaluate_criterion(criterion, found[criterion.asset]) for criterion in CRITERIA]
    failed = {one.criterion for one in results if one.verdict is Verdict.FAIL and one.mitigation}
    criteria = [
        one.model_copy(
            update={
                "is_covered": one.verdict is Verdict.UNKNOWN
                and one.measured_us is not None
                and criterion.depends_on in failed
            }
        )
        for one, criterion in zip(results, CRITERIA, strict=True)
    ]
    pieces = [
        EvidenceRef(
            asset=asset,
            file=store.path(asset).relative_to(store.folder.parent).as_posix(),
            sha256=latest.sha256,
            inputs=latest.evidence.inputs,
        )
        for asset, latest in found.items()
        if latest is not None
    ]
    return GoNoGo(
        overall=_decide_overall(criteria),
        reasons=[text for one in sorted(criteria, key=_rank_reason) if (text := _format_reason(one))],
        judged_us=time.time_ns() // 1000,
        criteria=criteria,
        evidence=pieces,
    )


def publish_verdict(verdict: GoNoGo, reports: Path, html: str, markdown: str) -> dict[str, Path]:
    """Publish the verdict as HTML, Markdown and, last, JSON.

    Args:
        verdict: The verdict.
        reports: Folder of reports.
        html: The verdict as an HTML page.
        markdown: The verdict as Markdown.

    Returns:
        Paths of the files by their endings.

    Raises:
        StorageError: A file cannot be written.
    """
    paths = {ending: reports / f"go_no_go.{ending}" for ending in ("html", "md", "json")}
    publish_bytes(paths["html"], html.encode())
    publish_bytes(paths["md"], markdown.encode())
    publish_model(paths["json"], verdict)
    return paths


def format_number(value: float, digits: int = 6) -> str:
    """Format a number: from 1,000 without decimals, below with `digits` significant digits."""
    return f"{value:,.0f}" if abs(value) >= _MIN_WHOLE else f"{value:.{digits}g}"


def _evaluate_criterion(criterion: Criterion, latest: StoredEvidence | None) -> CriterionResult:
    result = (
        criterion.judge(None, f"no evidence: materialize {criterion.asset}")
        if latest is None
        else latest.evidence.judge(criterion)
    )
    return CriterionResult(
        criterion=criterion.name,
        title=criterion.description,
        asset=criterion.asset,
        threshold=str(criterion.threshold),
        unit=criterion.threshold.unit,
        measured=result.measured,
        verdict=result.verdict,
        margin=criterion.threshold.margin(result.measured),
        measured_us=None if latest is None else latest.evidence.measured_us,
        note=result.reason,
        mitigation=criterion.remedy,
    )


def _is_blocking(one: CriterionResult) -> bool:
    """Report whether a criterion fails without a mitigation, which makes the verdict No-Go."""
    return one.verdict is Verdict.FAIL and not one.mitigation


def _is_unmeasured(one: CriterionResult) -> bool:
    return one.verdict is Verdict.UNKNOWN and not one.is_covered


def _rank_reason(one: CriterionResult) -> int:
    """Return the rank of a reason: failures without a mitigation, then unmeasured criteria, then others."""
    return 0 if _is_blocking(one) else 1 if _is_unmeasured(one) else 2


def _decide_overall(criteria: list[CriterionResult]) -> Overall:
    if any(map(_is_blocking, criteria)):
        return Overall.NO_GO
    if any(map(_is_unmeasured, criteria)):
        return Overall.NOT_JUDGED
    return Overall.CONDITIONAL if any(one.verdict is not Verdict.PASS for one in criteria) else Overall.GO


def _format_reason(one: CriterionResult) -> str:
    if one.verdict is Verdict.PASS:
        return ""
    if one.is_covered:
        return f"{one.title}: cannot be measured ({one.note}); mitigation: {one.mitigation}"
    if one.measured is None:
        return f"{one.title}: not measured ({one.note or 'no note'})"
    helps = f"mitigation: {one.mitigation}" if one.mitigation else "nothing mitigates it"
    return f"{one.title}: {format_number(one.measured)} {one.unit}, required: {one.threshold}; {helps}"
