"""Replay benchmark: figures, criteria of memory and throughput, and a replay with limited memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from capture_pipeline.checks.feasibility import MEMORY, THROUGHPUT, Criterion
from capture_pipeline.checks.model import Verdict
from capture_pipeline.feasibility.replay_throughput.benchmark import (
    BenchmarkError,
    ReplayBenchmark,
    ReplayInput,
    evidence_of,
    markdown,
    measure,
    session_input,
    synthetic_input,
)
from capture_pipeline.feasibility.replay_throughput.synthetic_events import LEVELS, generate_events
from capture_pipeline.feasibility.replay_throughput.synthetic_session import recording_of, tables_of
from capture_pipeline.feasibility.replay_throughput.worker import OUT_OF_MEMORY, ReplayRun, main
from capture_pipeline.orderbook.synchronization import State
from capture_pipeline.replay.engine import Replay

EVENTS = 42_000


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> ReplayInput:
    return synthetic_input(tmp_path_factory.mktemp("made"), EVENTS)


def test_made_level_updates_are_a_market(found: ReplayInput) -> None:
    """The book is never crossed and has no gap. The generated session contains the same events."""
    replays = {}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        replay = replays[name] = Replay()
        for messages in generate_events(EVENTS, seed):
            replay.process(messages)
        assert (replay.state, replay.counts.gaps, replay.book.crossed) == (State.SYNCED, 0, 0)
        assert replay.counts.events == EVENTS
    assert (
        replays["one"].counts.checksum == replays["again"].counts.checksum != replays["other"].counts.checksum
    )
    assert found.tables.manifest().messages["btcusdt@depth@100ms"] == EVENTS // LEVELS


def test_each_way_is_measured_and_held_to_its_gates(found: ReplayInput) -> None:
    """Every replay has all level updates. The slowest one and the largest memory decide."""
    result = measure(found, 1, 4096)
    assert {kind: run.events for kind, run in result.runs.items()} == dict.fromkeys(
        ("memory", "parquet", "raw"), EVENTS
    )
    assert all(run.peak_mb >= run.p95_mb > 20 and run.samples >= 1 for run in result.runs.values())
    evidence = evidence_of(result)
    rates = {kind: run.events / run.seconds for kind, run in result.runs.items()}
    assert evidence.reading(THROUGHPUT).measured == min(rates.values())
    assert evidence.reading(MEMORY).measured == max(run.p95_mb for run in result.runs.values()) / 1024
    assert result.pressure_held
    assert "from raw JSONL.gz" in markdown(result)
    assert session_input(
        tables_of(found.recording.parent), found.symbol, recording_of(found.recording.parent), 1
    ).inputs == {found.recording.name: found.tables.manifest().recording_sha256}


@pytest.mark.parametrize(
    ("events_s", "p95_mb", "failed"), [(99_999.0, 100.0, THROUGHPUT), (200_000.0, 24 * 1024.0, MEMORY)]
)
def test_each_gate_can_fail(events_s: float, p95_mb: float, failed: Criterion) -> None:
    """The evidence names the failed criterion."""
    run = ReplayRun(
        events=round(events_s), messages=1, seconds=1.0, gaps=0, peak_mb=p95_mb, p95_mb=p95_mb, samples=1
    )
    evidence = evidence_of(ReplayBenchmark(runs=dict.fromkeys(("memory", "parquet", "raw"), run)))
    verdicts = {
        criterion: criterion.verdict(evidence.reading(criterion).measured)
        for criterion in (THROUGHPUT, MEMORY)
    }
    assert [criterion for criterion, verdict in verdicts.items() if verdict is Verdict.FAIL] == [failed]


def test_a_replay_without_memory_ends_in_one_line() -> None:
    """Two million level updates do not fit into the limit. The program prints no traceback."""
    command = [
        sys.executable,
        "-m",
        "capture_pipeline.feasibility.replay_throughput.worker",
        "--cap-mb",
        "1",
        "memory",
        "2000000",
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (OUT_OF_MEMORY, "", 1)
    assert done.stderr.startswith("not enough memory: 1 MB in addition to the program itself are allowed")


def test_a_replay_that_cannot_run_is_told(
    found: ReplayInput, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error contains the last line of the worker's output."""
    gone = ReplayInput(found.tables, found.symbol, tmp_path / "gone.jsonl.gz", EVENTS, {})
    with pytest.raises(BenchmarkError, match=r"gone\.jsonl\.gz"):
        measure(gone, 1, 4096)
    assert main(["raw", str(tmp_path / "gone.jsonl.gz"), ""]) == 2
    assert capsys.readouterr().err.count("\n") == 1
