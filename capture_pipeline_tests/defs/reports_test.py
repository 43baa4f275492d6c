"""Reports on a session in Dagster: evidence with digests of the input, and a check for each criterion."""

import json
import re
from pathlib import Path

import dagster as dg
import pytest

from capture_pipeline.checks.feasibility import GAPS, ORIGIN_TIME, SKEW
from capture_pipeline.feasibility.evidence import EvidenceStore
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.recorder.lifecycle import sessions_root
from capture_pipeline_tests.support.dagster.stage import Stage
from capture_pipeline_tests.support.sessions.lines import START_NS, depth, session, snapshot, trade

TABLES = ("golden_trades", "golden_depth", "golden_snapshots")
REPORTS = ("origin_time_report", "delta_feed_report")


def on_time(line: bytes) -> bytes:
    """Return a line whose event and trade time are 12 ms before its capture time."""
    stamp = int(line[len(b'{"capture_ns":') :].split(b",")[0])
    return re.sub(rb'"([ET])":\d+', rb'"\1":%d' % (stamp // 10**6 - 12), line)


def recording(missing: int | None = None, *, timed: bool = True) -> list[bytes]:
    lines = [depth(1, 3, START_NS), snapshot(2, START_NS + 1)]
    for number in range(1, 400):
        stamp = START_NS + number * 50_000_000
        line = (
            trade(number // 2 + 1, stamp - 1_000_000)
            if number % 2
            else depth(number * 3 // 2 + 1, number * 3 // 2 + 3, stamp)
        )
        if number != missing:
            lines.append(line)
    return [on_time(line) if timed else line for line in lines]


def reported(stage: Stage, lines: list[bytes]) -> tuple[str, dg.ExecuteInProcessResult]:
    """Create a session of lines with its tables and both reports."""
    root = sessions_root(stage.deployment.settings)
    root.parent.mkdir(parents=True, exist_ok=True)
    folder = session(root.parent, lines)
    assert folder.path.is_relative_to(root)
    stage.instance.add_dynamic_partitions("sessions", [folder.session])
    assert stage.materialize(TABLES, folder.session, with_checks=False).success
    result = stage.materialize(REPORTS, folder.session)
    assert result.success
    return folder.session, result


def verdicts(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


def test_reports_of_a_sound_session(stage: Stage) -> None:
    """All criteria are met; figures, page, evidence, and digests of recording and tables exist."""
    key, result = reported(stage, recording())
    assert verdicts(result) == {ORIGIN_TIME.name: True, SKEW.name: True, GAPS.name: True}
    assert {each.partition for each in result.get_asset_check_evaluations()} == {key}
    store = EvidenceStore(stage.deployment.lake.reports())
    manifest = GoldenTables(stage.deployment.lake.tables(), key).manifest()
    for name in REPORTS:
        metadata = stage.materializations(name)[key].metadata
        page = Path(str(metadata["page"].value))
        assert key in page.read_text()
        assert key in str(metadata["report"].value)
        latest = store.latest(name)
        assert latest is not None
        assert latest[0].inputs[manifest.recording] == manifest.recording_sha256
        assert {
            file.path: file.sha256 for file in manifest.files if file.table == "golden_depth"
        }.items() <= latest[0].inputs.items()
        assert latest[0].failed == []
        assert json.loads(json.dumps(metadata["inputs"].value)) == latest[0].inputs
    origin = stage.materializations("origin_time_report")[key].metadata
    assert origin["clock BTCUSDT"].value == "origin time"
    assert origin[SKEW.name].value == pytest.approx(0, abs=1)
    assert origin["BTCUSDT deltas: offset, ms"].value == 12
    assert stage.materializations("delta_feed_report")[key].metadata[GAPS.name].value == 0


def test_each_criterion_fails_where_it_should(stage: Stage) -> None:
    """With a lost diff and missing event times two checks warn and name the mitigation; the run succeeds."""
    _, result = reported(stage, recording(missing=200, timed=False))
    assert verdicts(result) == {ORIGIN_TIME.name: False, SKEW.name: False, GAPS.name: False}
    evaluations = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert {each.severity for each in evaluations.values()} == {dg.AssetCheckSeverity.WARN}
    assert str(evaluations[ORIGIN_TIME.name].description).endswith(ORIGIN_TIME.remedy)
    assert str(evaluations[SKEW.name].description).startswith("UNKNOWN")
    gaps = evaluations[GAPS.name]
    assert str(gaps.description).startswith("FAIL: lost ids against all ids; worst: ")
    assert gaps.metadata["measured"].value == pytest.approx(100 * 3 / 600)


def test_a_session_without_tables_is_told(stage: Stage) -> None:
    """The run fails at once with the remedy."""
    root = sessions_root(stage.deployment.settings)
    root.parent.mkdir(parents=True, exist_ok=True)
    folder = session(root.parent, recording())
    stage.instance.add_dynamic_partitions("sessions", [folder.session])
    result = stage.materialize(["delta_feed_report"], folder.session)
    assert not result.success
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert "the session has no tables" in str(failed.step_failure_data.error)
    assert stage.materialize(["origin_time_report"], folder.session).success is False
