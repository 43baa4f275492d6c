"""The verdict: results of failures, reasons, and a self-contained page."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from capture_pipeline.checks.feasibility import CRITERIA, DISK, EXACT, GAPS, ORIGIN_TIME, SKEW, Criterion
from capture_pipeline.checks.model import Bound, Verdict
from capture_pipeline.errors import LakeError
from capture_pipeline.feasibility import verdict as verdict_module
from capture_pipeline.feasibility.evidence import EvidenceStore, Reading, new_evidence
from capture_pipeline.feasibility.verdict import GoNoGo, Overall, evaluate_criteria, publish_verdict
from capture_pipeline.feasibility.verdict_page import draw_margins, render_markdown, render_verdict
from capture_pipeline.lake.files import read_model

BY_NAME = {criterion.name: criterion for criterion in CRITERIA}
INPUT = {"a <file> of | input": "ab" * 32}


def passing_value(criterion: Criterion) -> float:
    """Return a value that passes a criterion."""
    return {
        Bound.AT_LEAST: 2 * criterion.threshold.limit,
        Bound.BELOW: criterion.threshold.limit / 2,
        Bound.EXACTLY: criterion.threshold.limit,
    }[criterion.threshold.bound]


def failing_value(criterion: Criterion) -> float:
    """Return a value that fails a criterion."""
    return (
        criterion.threshold.limit / 2
        if criterion.threshold.bound is Bound.AT_LEAST
        else 2 * criterion.threshold.limit + 1
    )


def store_evidence(reports: Path, *but: str, **readings: float | None) -> EvidenceStore:
    """Store evidence of every asset with passing values, except for the given values and assets."""
    store = EvidenceStore(reports)
    for asset in {criterion.asset for criterion in CRITERIA} - set(but):
        found = [
            Reading(
                criterion=one.name,
                measured=readings.get(one.name, passing_value(one)),
                note="as <made> | here",
            )
            for one in CRITERIA
            if one.asset == asset
        ]
        store.publish(new_evidence(asset, found, {"figure": 1.0}, INPUT))
    return store


def test_all_criteria_held_is_go(tmp_path: Path) -> None:
    """There is no reason. Every criterion has its value, and a margin if it has one."""
    verdict = evaluate_criteria(store_evidence(tmp_path))
    assert (verdict.overall, verdict.reasons) == (Overall.GO, [])
    assert [one.criterion for one in verdict.criteria] == [criterion.name for criterion in CRITERIA]
    for one in verdict.criteria:
        assert one.verdict is Verdict.PASS
        assert one.margin == (
            None if BY_NAME[one.criterion].threshold.bound is Bound.EXACTLY else pytest.approx(2)
        )
        assert one.measured_us


@pytest.mark.parametrize("name", BY_NAME)
def test_each_criterion_fails_by_its_evidence_and_is_named(name: str, tmp_path: Path) -> None:
    """With a mitigation the verdict is conditional; without one it is No-Go."""
    criterion = BY_NAME[name]
    verdict = evaluate_criteria(store_evidence(tmp_path, **{name: failing_value(criterion)}))
    (reason,) = verdict.reasons
    assert reason.startswith(f"{criterion.description}: ")
    failed = [one.criterion for one in verdict.criteria if one.verdict is Verdict.FAIL]
    assert failed == [name]
    if criterion.remedy:
        assert verdict.overall is Overall.CONDITIONAL
        assert reason.endswith(f"mitigation: {criterion.remedy}")
    else:
        assert verdict.overall is Overall.NO_GO
        assert reason.endswith("nothing mitigates it")


@pytest.mark.parametrize("criterion", CRITERIA, ids=lambda each: each.name)
def test_the_threshold_itself_is_judged_as_its_bound_says(criterion: Criterion, tmp_path: Path) -> None:
    """A value equal to the threshold passes `at least` and `exactly`, and fails `below`."""
    verdict = evaluate_criteria(store_evidence(tmp_path, **{criterion.name: criterion.threshold.limit}))
    assert verdict.overall is (
        Overall.CONDITIONAL if criterion.threshold.bound is Bound.BELOW else Overall.GO
    )


def test_a_failure_that_nothing_helps_against_outweighs_those_with_a_mitigation(tmp_path: Path) -> None:
    """Its reason is the first one."""
    verdict = evaluate_criteria(
        store_evidence(
            tmp_path, **{GAPS.name: failing_value(GAPS), EXACT.name: 3, DISK.name: failing_value(DISK)}
        )
    )
    assert verdict.overall is Overall.NO_GO
    assert [reason.split(":")[0] for reason in verdict.reasons] == [
        EXACT.description,
        GAPS.description,
        DISK.description,
    ]


@pytest.mark.parametrize("asset", sorted({criterion.asset for criterion in CRITERIA}))
def test_what_was_not_measured_leaves_the_whole_not_judged(asset: str, tmp_path: Path) -> None:
    """The reasons name every criterion of the asset, with the remedy."""
    verdict = evaluate_criteria(store_evidence(tmp_path, asset))
    assert verdict.overall is Overall.NOT_JUDGED
    titles = [criterion.description for criterion in CRITERIA if criterion.asset == asset]
    assert verdict.reasons == [
        f"{title}: not measured (no evidence: materialize {asset})" for title in titles
    ]
    assert asset not in {piece.asset for piece in verdict.evidence}


def test_a_failure_that_nothing_helps_against_is_a_no_go_whatever_was_not_measured(tmp_path: Path) -> None:
    """Further measurements cannot improve the verdict. The failure is named before missing values."""
    verdict = evaluate_criteria(store_evidence(tmp_path, DISK.asset, **{EXACT.name: 3}))
    assert verdict.overall is Overall.NO_GO
    assert [reason.split(":")[0] for reason in verdict.reasons] == [EXACT.description, DISK.description]


def test_nothing_measured_at_all_is_not_judged(tmp_path: Path) -> None:
    """Each criterion has a reason, and the page can be rendered."""
    verdict = evaluate_criteria(EvidenceStore(tmp_path))
    assert (verdict.overall, len(verdict.reasons), verdict.evidence) == (
        Overall.NOT_JUDGED,
        len(CRITERIA),
        [],
    )
    assert render_verdict(verdict).count("no evidence: materialize") == 2 * len(CRITERIA)


def test_evidence_that_could_not_measure_a_criterion_judges_nothing_and_passes_on_its_note(
    tmp_path: Path,
) -> None:
    """Evidence without a value is not sufficient."""
    verdict = evaluate_criteria(store_evidence(tmp_path, **{GAPS.name: None}))
    assert verdict.overall is Overall.NOT_JUDGED
    assert verdict.reasons == [f"{GAPS.description}: not measured (as <made> | here)"]


def test_damaged_evidence_is_told_and_no_verdict_rests_on_it(tmp_path: Path) -> None:
    """The error names the file."""
    store = store_evidence(tmp_path)
    path = store.path(DISK.asset)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(LakeError, match=f"{DISK.asset}.json.*damaged"):
        evaluate_criteria(store)


def test_every_piece_of_evidence_stands_with_its_digest(tmp_path: Path) -> None:
    """The verdict contains the digests of the evidence and of its inputs; a new measurement changes them."""
    store = store_evidence(tmp_path)
    verdict = evaluate_criteria(store)
    assert {piece.asset for piece in verdict.evidence} == {criterion.asset for criterion in CRITERIA}
    for piece in verdict.evidence:
        assert piece.sha256 == hashlib.sha256((tmp_path / piece.file).read_bytes()).hexdigest()
        assert piece.inputs == INPUT
    store.publish(new_evidence(DISK.asset, [Reading(criterion=DISK.name, measured=9)], {}, {}))
    again = {piece.asset: piece.sha256 for piece in evaluate_criteria(store).evidence}
    assert {piece.asset for piece in verdict.evidence if again[piece.asset] != piece.sha256} == {DISK.asset}


def test_it_is_published_in_three_forms_that_say_the_same(tmp_path: Path) -> None:
    """The JSON can be read again; Markdown and HTML contain every criterion, reason and digest."""
    verdict = evaluate_criteria(store_evidence(tmp_path / "reports", **{GAPS.name: failing_value(GAPS)}))
    paths = publish_verdict(verdict, tmp_path / "reports", render_verdict(verdict), render_markdown(verdict))
    assert {path.relative_to(tmp_path).as_posix() for path in paths.values()} == {
        f"reports/go_no_go.{each}" for each in ("html", "md", "json")
    }
    assert read_model(paths["json"], GoNoGo) == verdict
    assert json.loads(paths["json"].read_text())["overall"] == "Conditional"
    for path in (paths["html"], paths["md"]):
        text = path.read_text()
        assert "Conditional" in text
        for criterion in CRITERIA:
            assert criterion.description in text
        assert GAPS.remedy in text
        for piece in verdict.evidence:
            assert piece.sha256 in text
            assert piece.file in text
        assert text.count("ab" * 32) == len(verdict.evidence)


class Tags(HTMLParser):
    """Parser that collects every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_needs_no_other_file_and_escapes_what_it_tells(tmp_path: Path) -> None:
    """The page has no script, link or source, and texts of evidence are escaped."""
    html = render_verdict(evaluate_criteria(store_evidence(tmp_path)))
    parser = Tags()
    parser.feed(html)
    assert not {tag for tag, _ in parser.found} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "made",
        "file",
    }
    assert [
        attributes for _, attributes in parser.found if {"src", "href", "xlink:href"} & attributes.keys()
    ] == []
    assert "url(" not in html
    assert "@import" not in html
    assert "as &lt;made&gt; | here" in html


def test_a_table_of_markdown_keeps_its_columns_whatever_a_note_holds(tmp_path: Path) -> None:
    """An unescaped `|` in a note would start a new cell."""
    lines = [
        line
        for line in render_markdown(evaluate_criteria(store_evidence(tmp_path))).splitlines()
        if line.startswith("|")
    ]
    bars = [line.count("|") - line.count("\\|") for line in lines]
    assert set(bars[: 2 + len(CRITERIA)]) == {8}
    assert set(bars[2 + len(CRITERIA) :]) == {4}


def test_bars_lie_right_of_one_where_a_criterion_holds_and_left_where_it_fails(tmp_path: Path) -> None:
    """The scale is logarithmic.

    A criterion without a margin has no bar, and every mark is inside the picture.
    """
    verdict = evaluate_criteria(
        store_evidence(tmp_path, **{GAPS.name: 100 * GAPS.threshold.limit, DISK.name: 1e4})
    )
    root = ET.fromstring(draw_margins(verdict.criteria))
    space = "{http://www.w3.org/2000/svg}"
    axis = next(
        float(line.get("x1", "0")) for line in root.iter(space + "line") if line.get("stroke") == "#57606a"
    )
    bars = list(root.iter(space + "rect"))
    assert len(bars) == sum(one.margin is not None for one in verdict.criteria)
    left = [bar for bar in bars if float(bar.get("x", "0")) < axis]
    assert [bar.get("fill") for bar in left] == ["#d1495b"]
    assert float(left[0].get("x", "0")) + float(left[0].get("width", "0")) == pytest.approx(axis, abs=0.2)
    longest = max(bars, key=lambda bar: float(bar.get("width", "0")))
    assert float(longest.get("width", "0")) == pytest.approx(2 * float(left[0].get("width", "0")), rel=0.01)
    width = float(root.get("width", "0"))
    assert all(0 <= float(text.get("x", "-1")) <= width for text in root.iter(space + "text"))
    assert re.search(r">10,000×<", draw_margins(verdict.criteria))


def test_numbers_are_told_without_exponents(tmp_path: Path) -> None:
    """The same holds for large values and margins, on the page and in the text."""
    verdict = evaluate_criteria(store_evidence(tmp_path, throughput=32_123_456.7))
    for text in (render_verdict(verdict), render_markdown(verdict)):
        assert "32,123,457 events/s" in text
        assert "321×" in text
        assert "e+0" not in text
    slow = evaluate_criteria(store_evidence(tmp_path, throughput=1234.5)).reasons
    assert slow == [
        (
            "Level updates replayed per second: 1,234 events/s, required: at least 100,000 events/s; "
            "mitigation: replay in batches, not live"
        )
    ]


def test_a_criterion_that_is_added_is_judged_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict uses every criterion of the list."""
    added = replace(DISK, name="added", description="Added", asset="added_report", remedy="")
    monkeypatch.setattr(verdict_module, "CRITERIA", (*CRITERIA, added))
    verdict = evaluate_criteria(store_evidence(tmp_path))
    assert (verdict.overall, verdict.reasons) == (
        Overall.NOT_JUDGED,
        ["Added: not measured (no evidence: materialize added_report)"],
    )


@pytest.mark.parametrize(("missing", "overall"), [(100.0, Overall.CONDITIONAL), (1.0, Overall.NOT_JUDGED)])
def test_a_skew_that_cannot_be_measured_is_covered_by_what_is_missing(
    tmp_path: Path, missing: float, overall: Overall
) -> None:
    """Without origin times the receipt time is the clock, so their skew is not needed."""
    store = EvidenceStore(tmp_path)
    for asset in {criterion.asset for criterion in CRITERIA}:
        measured = {criterion.name: _passing(criterion) for criterion in CRITERIA if criterion.asset == asset}
        readings = [
            Reading(criterion=name, measured=value)
            for name, value in (measured | {ORIGIN_TIME.name: missing}).items()
            if name in measured
        ]
        readings = [
            one.model_copy(update={"measured": None, "note": "no stream has any"})
            if one.criterion == SKEW.name
            else one
            for one in readings
        ]
        store.publish(new_evidence(asset, readings, {}, {}))
    found = evaluate_criteria(store)
    assert found.overall is overall
    skew = next(reason for reason in found.reasons if reason.startswith(SKEW.description))
    assert ("cannot be measured (no stream has any); mitigation: use the receipt time" in skew) is (
        overall is Overall.CONDITIONAL
    )


def _passing(criterion: Criterion) -> float:
    return {
        Bound.AT_LEAST: 2 * criterion.threshold.limit,
        Bound.BELOW: criterion.threshold.limit / 2,
        Bound.EXACTLY: criterion.threshold.limit,
    }[criterion.threshold.bound]
