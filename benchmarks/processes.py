"""Processes that are measured, in interleaved runs: other load on the machine affects all of them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
OURS = sys.executable
PEERS = str(HERE.parent / ".venv-bench" / "bin" / "python")
BOOK_PEERS = str(HERE.parent / ".venv-bench-books" / "bin" / "python")


@dataclass(frozen=True)
class Run:
    """Times of one piece of work.

    Attributes:
        wall_s: Wall-clock seconds.
        cpu_s: CPU seconds of all cores, user and system.
        rows: Number of rows, to check that all processes do the same work.
        peak_mb: Peak resident memory of the process so far; 0 if not measured.
    """

    wall_s: float
    cpu_s: float
    rows: int
    peak_mb: float


@dataclass
class Series:
    """Runs of one process or one kind of process.

    Attributes:
        name: Name in the report.
        runs: Runs in order.
    """

    name: str
    runs: list[Run] = field(default_factory=list)

    def minimum(self, figure: str) -> float:
        """Return the minimum of a figure: the run that other load on the machine affected least."""
        return min(float(getattr(run, figure)) for run in self.runs)

    def median(self, figure: str) -> float:
        """Return the median of a figure."""
        return statistics.median(float(getattr(run, figure)) for run in self.runs)

    def maximum(self, figure: str) -> float:
        """Return the maximum of a figure."""
        return max(float(getattr(run, figure)) for run in self.runs)


class Worker:
    """Context manager of a process that works for each number on its standard input and returns times.

    The process is started, and has imported its modules, before the first work.
    """

    def __init__(self, program: str, *arguments: object) -> None:
        """Start the process.

        Args:
            program: Path of an interpreter or another program.
            arguments: Arguments of the program.
        """
        command = [program, *map(str, arguments)]
        self._name = " ".join(command)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, number: int) -> Run:
        """Process `number` inputs.

        Raises:
            RuntimeError: The process ended without an answer. Its messages are on standard error.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise TypeError(self._name)
        stdin.write(f"{number}\n")
        stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._name} ended with {self._process.wait()}")
        return Run(**json.loads(answer))

    def __enter__(self) -> Self:
        """Return the worker."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the input of the process, which ends it."""
        self._process.communicate()


Command = Sequence[object]
"""Interpreter, script and arguments of a worker."""


def run_interleaved(
    commands: Mapping[str, Command], number: int, repeats: int, *, warm_up: int = 1
) -> dict[str, Series]:
    """Start all workers, and let each of them run once in every round.

    Args:
        commands: Commands by name.
        number: Number of inputs in a run.
        repeats: Number of rounds.
        warm_up: Number of inputs before the first round, without measurement, to fill caches and load
            compiled code.
    """
    with ExitStack() as stack:
        workers = {name: stack.enter_context(_start_worker(command)) for name, command in commands.items()}
        series = {name: Series(name) for name in commands}
        for worker in workers.values():
            worker.run(warm_up)
        for _ in range(repeats):
            for name, worker in workers.items():
                series[name].runs.append(worker.run(number))
    return series


def run_in_new_process(command: Command, number: int) -> Run:
    """Start a worker for a single run."""
    with _start_worker(command) as worker:
        return worker.run(number)


def run_program(command: Sequence[str], environment: Mapping[str, str]) -> Run:
    """Measure a program including its start.

    Raises:
        RuntimeError: The program ends with an exit code other than 0.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        errors = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors.decode()[-2000:]}")
    return Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, 0, 0.0)


def _start_worker(command: Command) -> Worker:
    python, script, *arguments = command
    return Worker(str(python), HERE / str(script), *arguments)
