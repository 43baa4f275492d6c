"""Sessions of USD-M futures, recorded by real processes: aggregates, and diffs that continue by `pu`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.recorder.lifecycle import list_sessions, sessions_root
from capture_pipeline.sessions.models import Cause, SessionMetadata
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.exchange.process import exchange
from capture_pipeline_tests.support.sessions.recorder import BUSY, QUICK, Live

pytestmark = pytest.mark.slow

AGG_TRADE, DEPTH = "btcusdt@aggTrade", "btcusdt@depth@100ms"
ENDPOINTS = 2
"""Futures divide their streams among so many, so that each connection that is planned is that many."""


@pytest.fixture(scope="module")
def futures(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxDeployment]:
    """Start a market at twenty times the real speed, and a deployment that records its futures."""
    root = tmp_path_factory.mktemp("futures")
    with exchange(root, {"frozen": False, "speed": 20, "symbols": [BUSY]}, CAPTURE_MARKET="um") as sandbox:
        yield sandbox


@pytest.fixture
def session(futures: SandboxDeployment, tmp_path: Path) -> Iterator[Live]:
    """Start a session with two connections and its recorder."""
    sandbox = SandboxDeployment(futures.url, tmp_path, CAPTURE_MARKET="um")
    one = Live(sandbox, 600, ["BTCUSDT"])
    try:
        one.start(CAPTURE_RECORDING_SILENCE_S="6")
        one.recording(2 * ENDPOINTS)
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.kill()


def _synced(session: Live) -> None:
    """Wait until the book is synchronized."""
    session.wait(lambda status: status.books == {"BTCUSDT": "synced"})


def test_one_of_two_connections_may_be_cut_without_the_loss_of_an_id(session: Live, tmp_path: Path) -> None:
    """The recording is valid, the book agrees with REST, and tables are built, for each endpoint."""
    _synced(session)
    open_ones = {one["number"]: one["path"] for one in session.streams()["connections"]}
    for endpoint in ("market", "public"):
        victim = next(number for number, path in open_ones.items() if path == f"/fstream/{endpoint}/stream")
        session.inject_fault("ws_cut", victim)
    messages = session.recording(2 * ENDPOINTS).messages
    session.wait(lambda status: status.messages > messages + 500)
    session.wait(lambda _: any(audit["clean"] for audit in session.events("audit")))
    ranges = session.finish()
    assert not session.gaps
    assert {stream: len(found) > 100 for stream, found in ranges.items()} == {AGG_TRADE: True, DEPTH: True}
    assert session.metadata.statistics["reconnects_by_cause"] == {Cause.CLOSED: 2}
    report = validate(session.folder.path)
    verdicts = {check.spec.name: str(check.verdict) for check in report.checks}
    passed = (
        "line_form",
        "continuity",
        "overlaps",
        "seed",
        "snapshots",
        "streams",
        "ledger",
        "book_valid",
        "book_crossed",
        "book_audits",
    )
    assert {name: verdicts[name] for name in passed} == dict.fromkeys(passed, "PASS")
    rows = convert(session.folder.recording, session.folder.session, tmp_path / "tables").rows
    assert rows["golden_trades"] == 0
    assert min(rows["golden_depth"], rows["golden_snapshots"]) > 1000


def test_what_is_lost_with_both_connections_stands_in_the_ledger(session: Live) -> None:
    """The ledger lists the ids by stream.

    Lost aggregates are requested, and the book gets another snapshot.
    """
    _synced(session)
    session.inject_fault("ws_reset", "all")
    session.wait(lambda status: status.gaps == 2)
    _synced(session)
    session.wait(lambda _: any(event["filled"] for event in session.events("refill")))
    session.finish()
    assert {gap.cause for gap in session.gaps} == {Cause.CLOSED}
    gaps = {gap.stream: gap for gap in session.gaps}
    assert set(gaps) == {AGG_TRADE, DEPTH}
    lost = range(gaps[AGG_TRADE].last_good_id + 1, gaps[AGG_TRADE].first_good_id)
    lines = [json.loads(line) for line in session.folder.refilled.read_text().splitlines()]
    assert [line["agg"]["a"] for line in lines] == list(lost)
    assert (gaps[AGG_TRADE].filled_by, gaps[DEPTH].filled_by) == ("refilled_trades.jsonl", None)
    checks = {check.spec.name: check for check in validate(session.folder.path).checks}
    places = {
        place["stream"]: (place["last_good_id"], place["first_good_id"])
        for place in checks["continuity"].figures["places"]
    }
    assert places == {stream: (gap.last_good_id, gap.first_good_id) for stream, gap in gaps.items()}
    assert str(checks["ledger"].verdict) == "PASS"


def _capture(sandbox: SandboxDeployment, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, **sandbox.environment(**QUICK)}
    command = [sys.executable, "-c", "from capture_pipeline.cli.main import main; main()", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_preflight_and_a_started_session_know_futures(futures: SandboxDeployment) -> None:
    """Preflight tests both endpoints; `session start` records both streams."""
    checked = _capture(futures, "session", "preflight", "--symbol", "btcusdt", "--seconds", "2")
    started = _capture(futures, "session", "start", "--symbol", "btcusdt", "--duration", "4s")
    output = checked.communicate(timeout=60)[0]
    capture = next(line for line in output.splitlines() if "test capture" in line)
    assert capture.startswith("PASS"), output
    assert all(
        part in capture
        for part in ("/fstream/market/stream", "/fstream/public/stream", f"{AGG_TRADE} ", f"{DEPTH} ")
    )
    said = started.communicate(timeout=60)[0]
    assert started.returncode == 0, said
    assert f"Recording {AGG_TRADE}, {DEPTH} until" in said
    assert "0 gaps, 0 ids lost" in said
    folder = list_sessions(sessions_root(futures.deployment.settings))[0]
    metadata = SessionMetadata.model_validate_json(folder.metadata.read_bytes())
    assert metadata.plan.market == "um"
    assert {stream: count > 50 for stream, count in metadata.statistics["messages_by_stream"].items()} == {
        AGG_TRADE: True,
        DEPTH: True,
    }


def test_preflight_names_the_endpoint_that_refuses(futures: SandboxDeployment) -> None:
    """Unavailable trades are reported before a session starts."""
    futures.faults(
        {"fault": "ws_refuse", "status": 503, "times": "always", "match": {"path": "/fstream/market/*"}}
    )
    try:
        output = _capture(
            futures, "session", "preflight", "--symbol", "btcusdt", "--seconds", "2"
        ).communicate(timeout=60)[0]
    finally:
        futures.faults()
    capture = next(line for line in output.splitlines() if "test capture" in line)
    assert capture.startswith("FAIL")
    assert "/fstream/market/stream" in capture
    assert "503" in capture
