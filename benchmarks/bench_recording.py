"""Benchmark of the recorder with two merged connections, compared with a simple recorder and cryptofeed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack

from frames_file import write_frames
from inputs import OUT
from processes import HERE, OURS, PEERS, Command, Run, Series, Worker
from report import Finding, ratio

NAME = "recording"
_MESSAGES = 100_000
_AVERAGE_PER_S = 39
_MANY = 500
_OURS, _OURS_MANY = "ours", f"ours, {_MANY} symbols"
_CRYPTOFEED, _NAIVE = "cryptofeed raw files", "json + gzip.open"


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure each process on one core in interleaved runs; each run has a server on the other cores.

    Raises:
        RuntimeError: A process did not record every message.
    """
    few, many = ensure_frames(100), ensure_frames(_MANY)
    work = OUT / "work" / "recording"
    work.mkdir(parents=True, exist_ok=True)
    commands: dict[str, tuple[Command, str, int]] = {
        _OURS: ((OURS, "worker_recording.py", 100, _MESSAGES, work), few, 2),
        _CRYPTOFEED: ((PEERS, "peer_cryptofeed.py", _MESSAGES, work), few, 1),
        _NAIVE: ((PEERS, "peer_naive_recorder.py", _MESSAGES, work), few, 1),
        _OURS_MANY: ((OURS, "worker_recording.py", _MANY, _MESSAGES, work), many, 2),
    }
    series = _run_interleaved(commands, repeats)
    if {run.rows for each in series.values() for run in each.runs} != {_MESSAGES}:
        raise RuntimeError("a process did not record every message")
    return _findings(series), list(series.values())


def _findings(series: Mapping[str, Series]) -> list[Finding]:
    ours, naive, cryptofeed = (series[name] for name in (_OURS, _NAIVE, _CRYPTOFEED))
    findings = [
        ratio(
            NAME,
            "two connections merged, books followed: times as fast as json + gzip.open of one",
            naive,
            ours,
            least=10,
        ),
        ratio(NAME, "… in CPU time", naive, ours, figure="cpu_s"),
        ratio(NAME, "… against cryptofeed's raw files of one connection", cryptofeed, ours),
    ]
    for name, each in series.items():
        connections = 1 if name in {_NAIVE, _CRYPTOFEED} else 2
        least = _MANY * _AVERAGE_PER_S / 1000 if name == _OURS_MANY else None
        recorded, middle = (
            _MESSAGES / 1000 / seconds for seconds in (each.minimum("wall_s"), each.median("wall_s"))
        )
        findings.append(
            Finding(
                NAME,
                f"{name}: recorded, of {connections} times as many received",
                recorded,
                "k/s",
                least,
                median=middle,
            )
        )
    for name, each in series.items():
        least_cpu, middle = (
            seconds * 1e6 / _MESSAGES for seconds in (each.minimum("cpu_s"), each.median("cpu_s"))
        )
        findings.append(Finding(NAME, f"{name}: CPU for a million recorded", least_cpu, "s", median=middle))
    return findings


def ensure_frames(symbols: int) -> str:
    path = OUT / f"frames_{symbols}_{_MESSAGES}.bin"
    if not path.is_file():
        write_frames(path, symbols, _MESSAGES)
    return str(path)


def _run_interleaved(commands: Mapping[str, tuple[Command, str, int]], repeats: int) -> dict[str, Series]:
    """Run all processes in every round; each run has a new server."""
    series = {name: Series(name) for name in commands}
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(_start_pinned(command)) for name, (command, _, _) in commands.items()
        }
        for _ in range(repeats):
            for name, (_, frames, connections) in commands.items():
                series[name].runs.append(_run(workers[name], frames, connections))
    return series


def _start_pinned(command: Command) -> Worker:
    python, script, *arguments = command
    return Worker("taskset", "-c", "0", str(python), HERE / str(script), *arguments)


def _run(worker: Worker, frames: str, connections: int) -> Run:
    server = [sys.executable, str(HERE / "frames_server.py"), frames, str(connections)]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as process:
        if process.stdout is None:
            raise TypeError(server)
        return worker.run(int(process.stdout.readline()))
