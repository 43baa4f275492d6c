"""The verdict: every criterion against the latest evidence of its asset, with the digests of what it rests on."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from capture_pipeline.feasibility.criteria import CRITERIA, Criterion, Verdict
from capture_pipeline.feasibility.evidence import Evidence, EvidenceStore, Reading
from capture_pipeline.lake.files import publish_bytes, publish_model

_WHOLE_FROM = 1000


class Overall(StrEnum):
    """What all criteria together come to."""

    GO = "Go"
    CONDITIONAL = "Conditional"
    NO_GO = "No-Go"
    NOT_JUDGED = "Not judged"
    """A criterion was not measured, and none fails that nothing helps against."""


class CriterionResult(BaseModel):
    """A criterion, judged.

    Attributes:
        criterion: Its name.
        title: For people.
        asset: What measures it.
        threshold: As a sentence: bound, number and unit.
        unit: Of `measured`.
        measured: None where it was not measured.
        verdict: Whether it holds.
        margin: By which factor it holds, above 1, or fails; None where there is none.
        measured_us: When, microseconds UTC; None where there is no evidence.
        note: How it was measured, or why not.
        mitigation: What to do where it fails; empty where nothing helps.
        is_covered: Whether it cannot be measured because another one fails, whose mitigation makes it needless.
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
    """A piece of evidence.

    Attributes:
        asset: What measured it.
        file: Below the folder of reports.
        sha256: Of the file.
        inputs: SHA-256 of what it was measured on, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    asset: str
    file: str
    sha256: str
    inputs: dict[str, str]


class GoNoGo(BaseModel):
    """The verdict.

    Attributes:
        overall: What all criteria come to.
        reasons: Why it is no `Go`, a sentence a criterion; the failures that nothing helps against and what was not measured first.
        judged_us: When, microseconds UTC.
        criteria: Every one.
        evidence: What it rests on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    overall: Overall
    reasons: list[str]
    judged_us: int
    criteria: list[CriterionResult]
    evidence: list[EvidenceRef]


def judge(store: EvidenceStore) -> GoNoGo:
    """Hold the latest evidence against the criteria.

    Args:
        store: Of the deployment.

    Raises:
        LakeError: A piece of evidence is damaged: no verdict rests on it.
    """
    found = {asset: store.latest(asset) for asset in dict.fromkeys(criterion.asset for criterion in CRITERIA)}
    judged = [
        _judge_criterion(criterion, None if (latest := found[criterion.asset]) is None else latest[0])
        for criterion in CRITERIA
    ]
    failed = {one.criterion for one in judged if one.verdict is Verdict.FAIL and one.mitigation}
    criteria = [
        one.model_copy(
            update={
                "is_covered": one.verdict is Verdict.UNKNOWN
                and one.measured_us is not None
                and criterion.rests_on in failed
            }
        )
        for one, criterion in zip(judged, CRITERIA, strict=True)
    ]
    pieces = [
        EvidenceRef(
            asset=asset,
            file=store.path(asset).relative_to(store.folder.parent).as_posix(),
            sha256=latest[1],
            inputs=latest[0].inputs,
        )
        for asset, latest in found.items()
        if latest is not None
    ]
    return GoNoGo(
        overall=_overall(criteria),
        reasons=[text for one in sorted(criteria, key=_rank) if (text := _reason(one))],
        judged_us=time.time_ns() // 1000,
        criteria=criteria,
        evidence=pieces,
    )


def publish(verdict: GoNoGo, reports: Path, html: str, markdown: str) -> dict[str, Path]:
    """Publish it in all forms; the JSON last.

    Args:
        verdict: The verdict.
        reports: Folder of reports.
        html: It as a page.
        markdown: It as a text.

    Returns:
        Path by ending.

    Raises:
        StorageError: The disk refuses.
    """
    paths = {ending: reports / f"go_no_go.{ending}" for ending in ("html", "md", "json")}
    publish_bytes(paths["html"], html.encode())
    publish_bytes(paths["md"], markdown.encode())
    publish_model(paths["json"], verdict)
    return paths


def number(value: float, digits: int = 6) -> str:
    """A number for people: whole and with separators from a thousand on, below that to so many digits."""
    return f"{value:,.0f}" if abs(value) >= _WHOLE_FROM else f"{value:.{digits}g}"


def _judge_criterion(criterion: Criterion, evidence: Evidence | None) -> CriterionResult:
    missing = Reading(
        criterion=criterion.name, measured=None, note=f"no evidence: materialize {criterion.asset}"
    )
    reading = missing if evidence is None else evidence.reading(criterion)
    return CriterionResult(
        criterion=criterion.name,
        title=criterion.title,
        asset=criterion.asset,
        threshold=f"{criterion.bound} {criterion.threshold:,g} {criterion.unit}",
        unit=criterion.unit,
        measured=reading.measured,
        verdict=criterion.verdict(reading.measured),
        margin=criterion.margin(reading.measured),
        measured_us=None if evidence is None else evidence.measured_us,
        note=reading.note,
        mitigation=criterion.mitigation,
    )


def _is_blocking(one: CriterionResult) -> bool:
    """Whether it fails and nothing helps, so that it alone makes the whole a No-Go."""
    return one.verdict is Verdict.FAIL and not one.mitigation


def _is_unmeasured(one: CriterionResult) -> bool:
    return one.verdict is Verdict.UNKNOWN and not one.is_covered


def _rank(one: CriterionResult) -> int:
    """Order of reasons: what nothing helps against, what was not measured, the rest."""
    return 0 if _is_blocking(one) else 1 if _is_unmeasured(one) else 2


def _overall(criteria: list[CriterionResult]) -> Overall:
    if any(map(_is_blocking, criteria)):
        return Overall.NO_GO
    if any(map(_is_unmeasured, criteria)):
        return Overall.NOT_JUDGED
    return Overall.CONDITIONAL if any(one.verdict is not Verdict.PASS for one in criteria) else Overall.GO


def _reason(one: CriterionResult) -> str:
    if one.verdict is Verdict.PASS:
        return ""
    if one.is_covered:
        return f"{one.title}: cannot be measured ({one.note}); mitigation: {one.mitigation}"
    if one.measured is None:
        return f"{one.title}: not measured ({one.note or 'no note'})"
    helps = f"mitigation: {one.mitigation}" if one.mitigation else "nothing mitigates it"
    return f"{one.title}: {number(one.measured)} {one.unit}, wanted {one.threshold}; {helps}"
