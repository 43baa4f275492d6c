"""Replay benchmark: level updates a second and memory, for replays from memory, tables and a recording.

Each replay is a process of its own, whose resident memory is sampled a hundred times a second. One more
replay runs with a limit of memory; it must succeed, or end with one line of text. The input is a session, or
generated level updates.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from capture_pipeline.checks.feasibility import MEMORY, THROUGHPUT
from capture_pipeline.errors import PermanentError
from capture_pipeline.feasibility.evidence import Evidence, Reading, new_evidence
from capture_pipeline.feasibility.replay_throughput import synthetic_session
from capture_pipeline.feasibility.replay_throughput.worker import OUT_OF_MEMORY, ReplayRun
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.lake.files import sha256_file
from capture_pipeline.reporting import markdown as md

HOUR_EVENTS = 8_000_000
"""Level updates of an hour of one busy symbol."""
MAIN_FIGURES = ("memory_events_s", "parquet_events_s", "raw_events_s")
"""Figures whose decrease is reported; higher is better."""
_MB_A_GB = 1024
_TITLES = {"memory": "in memory", "parquet": "from Parquet", "raw": "from raw JSONL.gz"}


@dataclass(frozen=True)
class ReplayInput:
    """Input of the replays.

    Attributes:
        tables: Tables of a session.
        symbol: Symbol in capitals.
        recording: Raw recording of the same session.
        events: Number of level updates to generate for the replay from memory.
        inputs: SHA-256 of the inputs, by name.
    """

    tables: GoldenTables
    symbol: str
    recording: Path
    events: int
    inputs: dict[str, str]


@dataclass
class ReplayBenchmark:
    """Result of the benchmark.

    Attributes:
        runs: Figures of the worker, by kind of replay.
        pressure: Description of the end of the replay with limited memory.
        pressure_held: The replay with limited memory succeeded, or ended with exit code 3 and one line.
        cap_mb: The limit of memory in MB.
        inputs: SHA-256 of the inputs, by name.
    """

    runs: dict[str, ReplayRun] = field(default_factory=dict)
    pressure: str = ""
    pressure_held: bool = False
    cap_mb: int = 0
    inputs: dict[str, str] = field(default_factory=dict)


class BenchmarkError(PermanentError):
    """A replay failed; the message contains the last line of its output."""


def synthetic_input(folder: Path, events: int) -> ReplayInput:
    """Generate a session of level updates, once; later calls reuse it.

    Args:
        folder: Folder of generated sessions.
        events: Number of level updates.

    Raises:
        StorageError: A file cannot be written.
    """
    home = folder / str(events)
    synthetic_session.make_session(home, events)
    recording = synthetic_session.recording_of(home)
    tables = synthetic_session.tables_of(home)
    return ReplayInput(
        tables,
        synthetic_session.SYMBOL,
        recording,
        events,
        {f"{events:,} made level updates": sha256_file(recording)},
    )


def session_input(tables: GoldenTables, symbol: str, recording: Path, events: int) -> ReplayInput:
    """Return a recorded session as input.

    Raises:
        LakeError: The session has no tables.
    """
    return ReplayInput(
        tables, symbol, recording, events, {recording.name: tables.manifest().recording_sha256}
    )


def measure(found: ReplayInput, repeats: int, cap_mb: int) -> ReplayBenchmark:
    """Run the replays. Of several runs, the fastest time and the largest memory count.

    Args:
        found: Input of the replays.
        repeats: Number of runs of each kind.
        cap_mb: Memory in MB that the replay with limited memory may use in addition to the program itself.

    Raises:
        CaptureError: A replay failed.
    """
    result = ReplayBenchmark(cap_mb=cap_mb, inputs=found.inputs)
    commands = {
        "memory": ["memory", str(found.events)],
        "parquet": ["parquet", str(found.tables.root), found.tables.session, found.symbol],
        "raw": ["raw", str(found.recording), found.symbol],
    }
    for kind, command in commands.items():
        runs = [_replay(command) for _ in range(repeats)]
        result.runs[kind] = min(runs, key=lambda run: run.seconds).model_copy(
            update={
                "peak_mb": max(run.peak_mb for run in runs),
                "p95_mb": max(run.p95_mb for run in runs),
            }
        )
    done = _run_worker(["--cap-mb", str(cap_mb), *commands["parquet"]])
    if done.returncode == 0:
        result.pressure, result.pressure_held = (
            f"succeeded with {ReplayRun.model_validate_json(done.stdout).peak_mb:,.0f} MB at most",
            True,
        )
    else:
        result.pressure = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1][:300]
        result.pressure_held = done.returncode == OUT_OF_MEMORY and len(done.stderr.strip().splitlines()) == 1
    return result


def evidence_of(found: ReplayBenchmark) -> Evidence:
    """Build the evidence of throughput and memory."""
    slowest = min(found.runs, key=lambda kind: found.runs[kind].events_per_s)
    largest = max(found.runs, key=lambda kind: found.runs[kind].p95_mb)
    readings = [
        Reading(
            criterion=THROUGHPUT.name,
            measured=found.runs[slowest].events_per_s,
            note=f"{_TITLES[slowest]}, the slowest of three; {_format_size(found)}",
        ),
        Reading(
            criterion=MEMORY.name,
            measured=found.runs[largest].p95_mb / _MB_A_GB,
            note=f"{_TITLES[largest]}, the largest of three; {_format_size(found)}",
        ),
    ]
    figures = {"pressure_held": float(found.pressure_held), "pressure_cap_mb": float(found.cap_mb)}
    for kind, run in found.runs.items():
        figures |= {
            f"{kind}_events_s": run.events_per_s,
            f"{kind}_messages_s": run.messages / run.seconds,
            f"{kind}_peak_mb": run.peak_mb,
            f"{kind}_p95_mb": run.p95_mb,
            f"{kind}_gaps": run.gaps,
        }
    details = {
        "runs": {kind: run.model_dump() for kind, run in found.runs.items()},
        "pressure": found.pressure,
    }
    return new_evidence(THROUGHPUT.asset, readings, figures, found.inputs, details, text=markdown(found))


def markdown(found: ReplayBenchmark) -> md.Markdown:
    """Render the result as Markdown."""
    rows = []
    for kind, run in found.runs.items():
        cells = (run.events_per_s, run.messages / run.seconds, run.peak_mb, run.p95_mb)
        rows.append([_TITLES[kind], *(f"{cell:,.0f}" for cell in cells)])
    outcome = "correctly" if found.pressure_held else md.bold("incorrectly")
    ended = md.sentence(
        f"With {found.cap_mb:,} MB in addition to the program itself, the replay ended ",
        outcome,
        f": {found.pressure}",
    )
    return md.document(md.table(["", "level updates/s", "messages/s", "peak MB", "P95 MB"], rows), ended)


def _format_size(found: ReplayBenchmark) -> str:
    return f"{max(run.events for run in found.runs.values()):,.0f} level updates"


def _replay(command: list[str]) -> ReplayRun:
    done = _run_worker(command)
    if done.returncode:
        last_line = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1][:300]
        raise BenchmarkError(
            f"a replay ended with exit code {done.returncode}: {last_line}",
            where=" ".join(command),
            remedy="run this command alone to see its whole output",
        )
    return ReplayRun.model_validate_json(done.stdout)


def _run_worker(command: list[str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "capture_pipeline.feasibility.replay_throughput.worker", *command]
    return subprocess.run(program, check=False, capture_output=True, text=True)  # noqa: S603 - ourselves
