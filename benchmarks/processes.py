"""Starting what is measured and asking it for its times; rounds in which every process has its turn, so that a slow minute hits all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Self

HERE = Path(__file__).parent
OURS = sys.executable
PEERS = str(HERE.parent / ".venv-bench" / "bin" / "python")
BOOK_PEERS = str(HERE.parent / ".venv-bench-books" / "bin" / "python")


@dataclass(frozen=True)
class Run:
    """One piece of work.

    Attributes:
        wall_s: Seconds on the clock.
        cpu_s: Seconds of all cores, user and system.
        rows: Rows made, for a look whether all did the same.
        peak_mb: Peak resident memory of the process up to its end; 0 where it was not taken.
    """

    wall_s: float
    cpu_s: float
    rows: int
    peak_mb: float


@dataclass
class Series:
    """All runs of one process or of one kind of process.

    Attributes:
        name: What it is.
        runs: In order.
    """

    name: str
    runs: list[Run] = field(default_factory=list)

    def least(self, what: str) -> float:
        """The least of a figure: the run that other work on the machine disturbed least."""
        return min(float(getattr(run, what)) for run in self.runs)

    def middle(self, what: str) -> float:
        """The median of a figure."""
        return median(float(getattr(run, what)) for run in self.runs)

    def most(self, what: str) -> float:
        """The largest of a figure."""
        return max(float(getattr(run, what)) for run in self.runs)


class Worker:
    """A process that answers each number on its standard input with the times of that much work; a context manager.

    It is started, and imports what it needs, before anything is timed.
    """

    def __init__(self, program: str, *arguments: object) -> None:
        """Start it.

        Args:
            program: An interpreter, for instance.
            arguments: Its arguments.
        """
        command = [program, *map(str, arguments)]
        self._name = " ".join(command)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, number: int) -> Run:
        """Have it work through `number` of its inputs.

        Raises:
            RuntimeError: It ended instead of answering; what it said stands on standard error.
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
        """Nothing more to do."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its input, which ends it."""
        self._process.communicate()


Command = Sequence[object]
"""Interpreter, script and arguments of a worker."""


def in_turn(
    commands: Mapping[str, Command], number: int, repeats: int, *, warm_up: int = 1
) -> dict[str, Series]:
    """Keep workers running and ask each in turn, round by round.

    Args:
        commands: By name.
        number: How much work a run is.
        repeats: Rounds.
        warm_up: How much work each does first, untimed: caches fill and compiled code is loaded.
    """
    with ExitStack() as stack:
        workers = {name: stack.enter_context(_worker(command)) for name, command in commands.items()}
        series = {name: Series(name) for name in commands}
        for worker in workers.values():
            worker.ask(warm_up)
        for _ in range(repeats):
            for name, worker in workers.items():
                series[name].runs.append(worker.ask(number))
    return series


def afresh(command: Command, number: int) -> Run:
    """Do one piece of work in a process of its own."""
    with _worker(command) as worker:
        return worker.ask(number)


def whole(command: Sequence[str], environment: Mapping[str, str]) -> Run:
    """Run a program from start to end: its start-up is in its times.

    Raises:
        RuntimeError: It fails.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        command, env=dict(environment), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        said = process.stderr.read() if process.stderr else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {said.decode()[-2000:]}")
    return Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, 0, 0.0)


def _worker(command: Command) -> Worker:
    python, script, *arguments = command
    return Worker(str(python), HERE / str(script), *arguments)
