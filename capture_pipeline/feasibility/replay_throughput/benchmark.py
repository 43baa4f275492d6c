"""The replay benchmark: level updates a second in memory, from tables and from a raw recording, and the memory that each takes.

Each is a process of its own, whose resident memory is sampled a hundred times a second. One more runs under a limit of memory, where it has
to succeed or to end with one clear line. A session is used where one is named; otherwise an hour of level updates is made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from capture_pipeline.errors import PermanentError
from capture_pipeline.feasibility.criteria import MEMORY, THROUGHPUT
from capture_pipeline.feasibility.evidence import Evidence, Reading, new_evidence
from capture_pipeline.feasibility.replay_throughput import synthetic_session
from capture_pipeline.feasibility.replay_throughput.worker import OUT_OF_MEMORY
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import sha256_file
from capture_pipeline.reporting import markdown as md

HOUR_EVENTS = 8_000_000
"""Level updates of an hour of one busy symbol."""
MAIN_FIGURES = ("memory_events_s", "parquet_events_s", "raw_events_s")
"""Figures whose fall is told; higher is better."""
_MB_A_GB = 1024
_TITLES = {"memory": "in memory", "parquet": "from Parquet", "raw": "from raw JSONL.gz"}


@dataclass(frozen=True)
class Input:
    """What is replayed.

    Attributes:
        tables: Of a session.
        symbol: In capitals.
        recording: The raw recording of the same session.
        events: Level updates to make for the run in memory.
        inputs: SHA-256 by name.
    """

    tables: GoldenTables
    symbol: str
    recording: Path
    events: int
    inputs: dict[str, str]


@dataclass
class ReplayBenchmark:
    """What was measured.

    Attributes:
        runs: Figures of `replay_child`, by kind.
        pressure: How the run under the limit ended.
        pressure_held: Whether it succeeded, or ended as it should.
        cap_mb: The limit.
        inputs: SHA-256 by name.
    """

    runs: dict[str, dict[str, float]] = field(default_factory=dict)
    pressure: str = ""
    pressure_held: bool = False
    cap_mb: int = 0
    inputs: dict[str, str] = field(default_factory=dict)


class BenchmarkError(PermanentError):
    """A replay did not end as it should; what it said is told."""


def made_input(folder: Path, events: int) -> Input:
    """An hour of level updates, made once and kept.

    Args:
        folder: Where it is kept.
        events: Level updates.

    Raises:
        StorageError: The disk refuses.
    """
    home = folder / str(events)
    synthetic_session.make_session(home, events)
    recording = synthetic_session.recording_of(home)
    tables = synthetic_session.tables_of(home)
    return Input(
        tables,
        synthetic_session.SYMBOL,
        recording,
        events,
        {f"{events:,} made level updates": sha256_file(recording)},
    )


def session_input(tables: GoldenTables, symbol: str, recording: Path, events: int) -> Input:
    """A session that was recorded.

    Raises:
        LakeError: It has no tables.
    """
    return Input(tables, symbol, recording, events, {recording.name: tables.manifest().recording_sha256})


def measure(found: Input, repeats: int, cap_mb: int) -> ReplayBenchmark:
    """Measure; of several runs the fastest counts, and the largest memory.

    Args:
        found: What is replayed.
        repeats: Runs of each kind.
        cap_mb: Memory that the run under pressure may take, beside the program itself.

    Raises:
        CaptureError: A replay could not run.
    """
    result = ReplayBenchmark(cap_mb=cap_mb, inputs=found.inputs)
    commands = {
        "memory": ["memory", str(found.events)],
        "parquet": ["parquet", str(found.tables.root), found.tables.session, found.symbol],
        "raw": ["raw", str(found.recording), found.symbol],
    }
    for kind, command in commands.items():
        runs = [_run(command) for _ in range(repeats)]
        best = min(runs, key=lambda run: run["seconds"])
        result.runs[kind] = best | {name: max(run[name] for run in runs) for name in ("peak_mb", "p95_mb")}
    done = _child(["--cap-mb", str(cap_mb), *commands["parquet"]])
    if done.returncode == 0:
        result.pressure, result.pressure_held = (
            f"succeeded with {_answer(done)['peak_mb']:,.0f} MB at most",
            True,
        )
    else:
        result.pressure = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
        result.pressure_held = done.returncode == OUT_OF_MEMORY and len(done.stderr.strip().splitlines()) == 1
    return result


def evidence_of(found: ReplayBenchmark) -> Evidence:
    """What was measured, as evidence of throughput and memory."""
    slowest = min(found.runs, key=lambda kind: _rate(found.runs[kind]))
    largest = max(found.runs, key=lambda kind: found.runs[kind]["p95_mb"])
    readings = [
        Reading(
            criterion=THROUGHPUT.name,
            measured=_rate(found.runs[slowest]),
            note=f"{_TITLES[slowest]}, the slowest of three; {_size(found)}",
        ),
        Reading(
            criterion=MEMORY.name,
            measured=found.runs[largest]["p95_mb"] / _MB_A_GB,
            note=f"{_TITLES[largest]}, the largest of three; {_size(found)}",
        ),
    ]
    figures = {"pressure_held": float(found.pressure_held), "pressure_cap_mb": float(found.cap_mb)}
    for kind, run in found.runs.items():
        figures |= {
            f"{kind}_events_s": _rate(run),
            f"{kind}_messages_s": run["messages"] / run["seconds"],
            f"{kind}_peak_mb": run["peak_mb"],
            f"{kind}_p95_mb": run["p95_mb"],
            f"{kind}_gaps": run["gaps"],
        }
    details = {"runs": found.runs, "pressure": found.pressure}
    return new_evidence(THROUGHPUT.asset, readings, figures, found.inputs, details, text=markdown(found))


def markdown(found: ReplayBenchmark) -> md.Markdown:
    """Tables for people."""
    rows = []
    for kind, run in found.runs.items():
        cells = (_rate(run), run["messages"] / run["seconds"], run["peak_mb"], run["p95_mb"])
        rows.append([_TITLES[kind], *(f"{cell:,.0f}" for cell in cells)])
    held = "as it should" if found.pressure_held else md.bold("not as it should")
    ended = md.sentence(
        f"With {found.cap_mb:,} MB beside the program itself it ended ", held, f": {found.pressure}"
    )
    return md.document(md.table(["", "level updates/s", "messages/s", "peak MB", "P95 MB"], rows), ended)


def _size(found: ReplayBenchmark) -> str:
    return f"{max(run['events'] for run in found.runs.values()):,.0f} level updates"


def _rate(run: dict[str, float]) -> float:
    return run["events"] / run["seconds"]


def _run(command: list[str]) -> dict[str, float]:
    done = _child(command)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:300]
        raise BenchmarkError(
            f"a replay ended with {done.returncode}: {said}",
            where=" ".join(command),
            remedy="repair the cause that it names",
        )
    return _answer(done)


def _answer(done: subprocess.CompletedProcess[str]) -> dict[str, float]:
    """The figures that a replay printed."""
    answer: dict[str, float] = json.loads(done.stdout)  # noqa: TID251 - our own program wrote it
    return answer


def _child(command: list[str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "capture_pipeline.feasibility.replay_throughput.worker", *command]
    return subprocess.run(program, check=False, capture_output=True, text=True)  # noqa: S603 - ourselves
