"""The next-day proof in Dagster: it starts after the last day is published; a difference fails it."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import dagster as dg
import pytest

from capture_pipeline_tests.support.dagster.stage import Stage
from capture_pipeline_tests.support.dagster.ui import PROGRAMS
from capture_pipeline_tests.support.sessions.midnight import BOTH_OUT, FIRST_OUT, MARKET, recorded
from capture_pipeline_tests.support.sessions.recorder import Live, live

pytestmark = pytest.mark.slow
HOUR = 3600
PROOF_HOLDS = dg.AssetCheckKey(dg.AssetKey("next_day_proof"), "proof_holds")


@pytest.fixture
def session(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Record a session with its tables in the deployment of the stage."""
    with live(tmp_path_factory.mktemp("proof"), speed=4, config=MARKET) as one:
        recorded(one)
        stage.sandbox = one.sandbox
        stage.instance.add_dynamic_partitions("sessions", [one.folder.session])
        assert stage.materialize(
            ["golden_trades", "golden_depth", "golden_snapshots"], one.folder.session
        ).success
        yield one


def run_proof(stage: Stage, key: str) -> tuple[bool, str]:
    """Run the job; return whether the check passed, and the state of the proof."""
    result = stage.run("prove_session", key)
    assert result.success
    (evaluation,) = result.get_asset_check_evaluations()
    assert evaluation.partition == key
    return evaluation.passed, evaluation.description or ""


def test_a_session_is_proved_when_its_days_are_out(stage: Stage, session: Live) -> None:
    """The waits for a late file grow; a complete proof is not requested again."""
    key = session.folder.session
    stage.sandbox.clock(now=FIRST_OUT)
    result = stage.tick("proof_sensor")
    assert (result.runs, result.reason) == (
        [],
        "no session can be proved now; 1 wait until their days are published",
    )
    assert run_proof(stage, key) == (True, "waiting")
    assert stage.materializations("next_day_proof")[key].metadata["days_waiting"].value == 1
    stage.sandbox.clock(now=BOTH_OUT)
    requested = []
    for _ in range(8):
        requested.append(stage.tick("proof_sensor").keys)
        stage.sandbox.clock(advance_s=HOUR // 2)
    assert requested == [[key], [], [key], [], [], [], [key], []]
    assert run_proof(stage, key) == (True, "holds")
    metadata = stage.materializations("next_day_proof")[key].metadata
    assert metadata["trades_captured"].value == metadata["trades_published"].value
    assert metadata["trades_differing"].value == 0
    assert key in str(metadata["proof"].value)
    assert (
        stage.tick("proof_sensor").reason
        == "no session can be proved now; 0 wait until their days are published"
    )


def test_a_difference_and_a_broken_file_fail_the_check(stage: Stage, session: Live) -> None:
    """The check names the first difference, and a file that fails its verification."""
    key = session.folder.session
    stage.sandbox.clock(now=BOTH_OUT)
    lines = session.folder.gaps.read_text()
    assert not lines, "the session has no gap"
    fault = {
        "match": {"path": "*daily*BTCUSDT-1m-2025-02-20.zip"},
        "fault": "csv_negative",
        "field": "count",
        "row": 1438,
        "value": "12345",
    }
    stage.sandbox.faults(fault)
    passed, text = run_proof(stage, key)
    assert not passed
    assert text.startswith("differs; first: bar 2025-02-20T23:58:00Z, trades: captured ")
    assert json.loads(stage.deployment.lake.proof(key).read_text())["state"] == "differs"
    stage.sandbox.faults({"match": {"path": "*-trades-*"}, "fault": "checksum_wrong"})
    shutil.rmtree(stage.sandbox.root / "raw" / "spot" / "trades")
    passed, text = run_proof(stage, key)
    assert not passed
    assert text.startswith(
        "unproved; BTCUSDT 2025-02-20 could not be compared with BTCUSDT-trades-2025-02-20.zip: "
    )
    assert stage.materializations("next_day_proof")[key].metadata["days_unproved"].value == 2
    stage.sandbox.faults()
    assert run_proof(stage, key) == (True, "holds")


def test_a_proof_of_the_shell_is_reported_once(stage: Stage, session: Live) -> None:
    """The sensor reports a proof of `capture session prove` with its check, and again only a newer one."""
    key = session.folder.session
    assert stage.run("record_session", key).success
    stage.sandbox.clock(now=FIRST_OUT)
    prove = [str(PROGRAMS / "capture"), "session", "prove", key, "--out", str(session.folder.path.parents[1])]
    known = "all 1 finished sessions are known or empty"
    assert stage.tick("session_arrivals").reason == known
    for now, state in ((FIRST_OUT, "waiting"), (BOTH_OUT, "holds")):
        stage.sandbox.clock(now=now)
        subprocess.run(
            prove, env={**os.environ, **stage.sandbox.environment()}, check=True, capture_output=True
        )
        assert stage.tick("session_arrivals").reason == f"{known}; 1 proofs reported"
        materialization = stage.materializations("next_day_proof")[key]
        assert materialization.metadata["state"].value == state
        [execution] = stage.instance.event_log_storage.get_asset_check_execution_history(
            PROOF_HOLDS, limit=10
        )
        assert execution.event is not None
        evaluation = execution.event.get_dagster_event().asset_check_evaluation_data
        assert (evaluation.passed, evaluation.description, evaluation.partition) == (True, state, key)
        assert stage.tick("session_arrivals").reason == known
