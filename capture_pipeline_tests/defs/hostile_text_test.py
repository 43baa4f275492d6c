"""Hostile text in Dagster: it is plain text in Markdown, and escaped and cut elsewhere."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from markdown_it import MarkdownIt

from capture_pipeline.checks.feasibility import CRITERIA
from capture_pipeline.defs.shared import outputs, table_metadata
from capture_pipeline.feasibility.evidence import Reading, new_evidence
from capture_pipeline_tests.defs.feasibility_test import passing_value, run_asset, store_of
from capture_pipeline_tests.support.attack import ATTACK, LONG, MARK, check_printable, check_shown
from capture_pipeline_tests.support.dagster.definitions import SETTINGS
from capture_pipeline_tests.support.dagster.stage import Stage, key
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.exchange.answers import answer, server

INJECTION = f"{ATTACK}|\n\n# h\n\n[l](http://evil) `c` *e* **s** <b>x</b> ~~d~~ &lt;" + "A" * 20_000
OURS = {
    "table_open",
    "thead_open",
    "tbody_open",
    "tr_open",
    "th_open",
    "td_open",
    "heading_open",
    "paragraph_open",
}
OURS |= {"bullet_list_open", "list_item_open", "inline", "text"}


def kinds_of(markdown: str) -> set[str]:
    """Return the kinds of the tokens in a Markdown text, without closing tokens."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    inner = [child for token in tokens for child in token.children or []]
    return {token.type for token in [*tokens, *inner] if not token.type.endswith("_close")}


def test_this_test_sees_an_injection() -> None:
    assert {
        "link_open",
        "image",
        "html_inline",
        "code_inline",
        "em_open",
        "strong_open",
        "s_open",
    } <= kinds_of(INJECTION)


def test_markdown_and_checks_of_a_verdict_on_hostile_evidence(stage: Stage) -> None:
    """The notes of evidence are read from files."""
    for asset in {criterion.asset for criterion in CRITERIA}:
        readings = [
            Reading(criterion=one.name, measured=passing_value(one), note=INJECTION)
            for one in CRITERIA
            if one.asset == asset
        ]
        store_of(stage).publish(new_evidence(asset, readings, {}, {INJECTION: "0" * 64}))
    result = run_asset(stage, "go_no_go")
    assert result.success
    (materialized,) = stage.materializations("go_no_go").values()
    verdict = materialized.metadata["verdict"]
    assert isinstance(verdict, dg.MarkdownMetadataValue)
    assert verdict.value
    shown = str(verdict.value)
    check_shown(shown)
    assert kinds_of(shown) <= OURS
    page = Path(str(materialized.metadata["page"].value)).read_text()
    check_shown(page)
    assert "<script" not in page
    (check,) = result.get_asset_check_evaluations()
    check_printable(check.description or "")
    description = outputs.check_result({}, INJECTION, passed=True).description or ""
    check_shown(description)
    assert kinds_of(description) == {"paragraph_open", "inline", "text"}


@pytest.mark.parametrize("asset", ["kline_archives", "kline_topups"])
def test_events_and_failures_of_a_refused_request(asset: str, stage: Stage) -> None:
    """The body of a refusal is in the failure, in the log, and in a table of metadata."""
    with server(
        lambda connection, _: answer(connection, {"code": -1100, "msg": LONG[:5000]}, "400 Bad Request")
    ) as url:
        sandbox = SandboxDeployment(url, stage.sandbox.root, CAPTURE_HTTP_ATTEMPTS="1", **SETTINGS)
        result = Stage(stage.definitions, sandbox, stage.instance).materialize(
            [asset], key("2024-01", "BTCUSDT")
        )
    assert not result.success
    messages = [entry.user_message for entry in stage.instance.all_logs(result.run_id)]
    data = [event.step_failure_data.user_failure_data for event in result.all_events if event.is_step_failure]
    failures = [
        text
        for each in data
        if each
        for text in (each.description or "", *map(_cells, each.metadata.values()))
    ]
    for text in [*messages, *failures]:
        check_printable(text)
    assert failures
    assert all(MARK in text for text in failures)


def _cells(value: dg.MetadataValue) -> str:
    assert isinstance(value, dg.TableMetadataValue)
    return "\n".join(str(cell) for record in value.records for cell in record.data.values())


def test_a_table_of_metadata_has_printable_cells() -> None:
    """Cells of tables and records are cut, and control characters are replaced."""
    (record,) = table_metadata.build_table([{"name": LONG, "rows": 1}]).records
    check_shown(str(record.data["name"]))
    assert len(str(record.data["name"])) == 300
    assert table_metadata.build_records([{"name": LONG, "rows": 1, "none": None}]) == [dict(record.data)]
    values = outputs.metadata({"text": LONG, "json": {"a": ATTACK}})
    assert isinstance(values["text"], dg.TextMetadataValue)
    check_shown(values["text"].value or "")
    for text in (outputs.failure(LONG).description, outputs.skip(LONG).skip_message):
        check_shown(text or "")
    for made_of in (
        outputs.check_result({}, LONG, passed=True),
        outputs.check_result({"a": LONG}, "", passed=True).metadata["a"],
    ):
        check_shown(str(made_of.description if isinstance(made_of, dg.AssetCheckResult) else made_of.value))
    assert values["json"].value == {"a": ATTACK}
