"""`make mutations`: put each fault of the list into a copy of the project, and see whether the tests named for it fail.

The copy is a temporary folder in front of the Python path, so that the programs which tests start use it too. The named tests run once
without a fault first: one that fails or is skipped then proves nothing, and its mutations are errors.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from capture_pipeline_tests.mutations.listing import ROOT, Mutation, load, problems
from capture_pipeline_tests.mutations.table import update

_PACKAGES = ("capture_pipeline", "capture_pipeline_tests")
_NOT_COPIED = {
    ".git",
    ".venv",
    ".venv-bench",
    ".venv-bench-books",
    "data",
    "benchmarks",
    "build",
    ".mypy_cache",
    ".ruff_cache",
}
_COMPILED = (".nbi", ".nbc")
_KERNELS = ("@kernel", "@making", "@numba.njit", "@_njit", "@_inlined")
_FAILED = 1
_MARGIN = 10
"""A run with a fault may take so many times as long as the one without."""


class Outcome(StrEnum):
    """What a mutation came to."""

    KILLED = "killed"
    """A named test failed."""
    TIMEOUT = "timeout"
    """The tests did not end in time; the time limit of the suite notices that too."""
    GUARDED = "guarded"
    """The tests passed, and the entry states a second guard."""
    SURVIVED = "survived"
    """The tests passed."""
    ERROR = "error"
    """Nothing was tried."""


FAULTY = {Outcome.SURVIVED, Outcome.ERROR}


@dataclass(frozen=True)
class Result:
    """Outcome of one mutation.

    Attributes:
        mutation: The mutation.
        outcome: The outcome.
        detail: Names of the tests that failed, or a reason.
        seconds: Duration.
    """

    mutation: Mutation
    outcome: Outcome
    detail: str
    seconds: float = 0.0


class Runner:
    """Runs mutations on copies of one project."""

    def __init__(self, root: Path, work: Path, least_s: float = 120.0) -> None:
        """Copy the project.

        Args:
            root: Project.
            work: Empty folder for copies.
            least_s: Shortest time limit of a run with a fault.
        """
        self._work, self._least_s = work, least_s
        self._base = work / "base"
        self._seconds: dict[str, float] = {}
        self._passed: set[str] = set()
        shutil.copytree(root, self._base, ignore=_left_out, symlinks=True)
        shared = root.parent / "shared"
        if shared.is_dir():  # recordings that tests read in place
            (work / "shared").symlink_to(shared)

    def run_without_faults(self, mutations: Iterable[Mutation]) -> None:
        """Run all named tests on the unchanged copy; note which pass and how long each takes. Compiled kernels stay in the copy."""
        nodes = sorted({node for mutation in mutations for node in mutation.nodes})
        self._check_path()
        self._note(nodes)
        failed = [node for node in self._seconds if node not in self._passed]
        if failed:  # a machine that is busy with something else may have been too slow for one of them
            self._note(failed)

    def _note(self, nodes: list[str]) -> None:
        report = self._work / "report.xml"
        ended = self._pytest(self._base, [*nodes, f"--junit-xml={report}", "-o", "junit_family=xunit1"], None)
        if not report.is_file():
            raise RuntimeError(f"the tests could not be run:\n{ended}")
        for case in ET.parse(report).getroot().iter("testcase"):
            node = f"{case.get('file')}::{case.get('name')}"
            self._seconds[node] = float(case.get("time") or 0)
            if not len(case):
                self._passed.add(node)

    def try_mutation(self, mutation: Mutation) -> Result:
        """Change a copy of the project and run the tests named for the change."""
        names = {node: [each for each in self._seconds if _selects(node, each)] for node in mutation.nodes}
        unsound = [node for node, cases in names.items() if not cases or not self._passed.issuperset(cases)]
        if unsound:
            return Result(
                mutation, Outcome.ERROR, f"fails or is skipped without the fault: {', '.join(unsound)}"
            )
        usual = sum(self._seconds[each] for cases in names.values() for each in cases)
        began = time.monotonic()
        with self._copy(mutation) as copy:
            report = copy.with_suffix(".xml")
            try:
                arguments = ["-x", *mutation.nodes, f"--junit-xml={report}", "-o", "junit_family=xunit1"]
                code, told = self._pytest(copy, arguments, self._least_s + _MARGIN * usual)
            except subprocess.TimeoutExpired:
                return Result(mutation, Outcome.TIMEOUT, "", time.monotonic() - began)
        return self._judge(mutation, code, told, time.monotonic() - began)

    def _judge(self, mutation: Mutation, code: int, told: str, seconds: float) -> Result:
        failed = [line.split()[1] for line in told.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        if code == _FAILED and failed:
            return Result(mutation, Outcome.KILLED, failed[0], seconds)
        if code == 0:
            return Result(
                mutation, Outcome.GUARDED if mutation.guard else Outcome.SURVIVED, mutation.guard, seconds
            )
        return Result(mutation, Outcome.ERROR, f"pytest ended with {code}: {told[-600:]}", seconds)

    @contextmanager
    def _copy(self, mutation: Mutation) -> Iterator[Path]:
        """Make a copy with the fault, of hard links but for the changed file, and remove it afterwards."""
        copy = self._work / mutation.id
        shutil.copytree(self._base, copy, copy_function=os.link, symlinks=True)
        try:
            path = copy / mutation.file
            text = path.read_text()
            path.unlink()
            path.write_text(mutation.apply(text))
            if any(mark in text for mark in _KERNELS):
                # A kernel that calls the changed one is compiled with it and does not notice the change; both are in one folder.
                for compiled in [each for each in path.parent.rglob("*") if each.suffix in _COMPILED]:
                    compiled.unlink()
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _check_path(self) -> None:
        """Make sure that Python takes the packages of the copy."""
        code = f"import {', '.join(_PACKAGES)}; print({_PACKAGES[0]}.__file__)"
        command = [sys.executable, "-c", code]
        found = subprocess.run(
            command, env=_environment(self._base), cwd=self._work, capture_output=True, text=True, check=True
        ).stdout
        if not Path(found.strip()).is_relative_to(self._base):
            raise RuntimeError(f"Python imports {found.strip()} and not the copy in {self._base}")

    def _pytest(self, copy: Path, arguments: list[str], limit_s: float | None) -> tuple[int, str]:
        """Run tests in a copy, in a process group of their own: exit code and output."""
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--no-header",
            "--tb=no",
            "-rfE",
            *arguments,
        ]
        output = subprocess.PIPE
        with subprocess.Popen(
            command,
            cwd=copy,
            env=_environment(copy),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                told, _ = process.communicate(timeout=limit_s)
            finally:
                _end_group(process)
        return process.returncode, told


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Name what is not copied; of the Dagster instance only its settings are."""
    if Path(folder).name == "dagster_home":
        return {name for name in names if not name.endswith(".yaml")}
    return _NOT_COPIED & set(names)


def _environment(copy: Path) -> dict[str, str]:
    """Environment in which Python finds the copy first and keeps its compiled kernels in it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"NUMBA_CACHE_DIR", "PYTHONDONTWRITEBYTECODE"}
    }
    return {
        **kept,
        "PYTHONPATH": str(copy),
        "TMPDIR": str(copy.parent),
        "TEST_TOOLS": kept.get("TEST_TOOLS", ""),
    }


def _end_group(process: subprocess.Popen[str]) -> None:
    """End what the tests of an overdue run have started."""
    if process.poll() is None:
        os.killpg(process.pid, 9)


def _selects(node: str, case: str) -> bool:
    """Whether a node id selects a test case."""
    return case == node or case.startswith((f"{node}[", f"{node}::"))


def run(
    mutations: list[Mutation],
    root: Path,
    jobs: int,
    on_result: Callable[[Result], None] = lambda _: None,
    least_s: float = 120.0,
) -> list[Result]:
    """Run mutations, report each result as it comes, and return the results in the order of the list."""
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="mutations-", ignore_cleanup_errors=True) as folder:
        runner = Runner(root, Path(folder).resolve(), least_s)
        _say(f"{len(mutations)} mutations; first their tests without a fault")
        runner.run_without_faults(mutations)
        with ThreadPoolExecutor(jobs) as pool:
            for done in as_completed([pool.submit(runner.try_mutation, mutation) for mutation in mutations]):
                result = done.result()
                results[result.mutation.id] = result
                on_result(result)
                _say(f"{result.outcome:9} {result.mutation.id}  {result.seconds:.0f} s  {result.detail}")
    return [results[mutation.id] for mutation in mutations]


def main(arguments: list[str] | None = None) -> int:
    """Run the mutations that the arguments choose; 1 if one survives without a stated guard or could not be tried."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", action="append", default=[], metavar="ID", help="run this mutation; may be repeated"
    )
    parser.add_argument(
        "--file", default="", metavar="TEXT", help="run mutations of files whose path contains this text"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="run so many at the same time")
    parser.add_argument("--write", action="store_true", help="write the results into docs/reliability.md")
    parser.add_argument("--list", action="store_true", help="print the mutations and run none")
    chosen = parser.parse_args(arguments)
    listed = load()
    mutations = [
        each for each in listed if chosen.file in each.file and (not chosen.only or each.id in chosen.only)
    ]
    unusable = problems(mutations) + [
        f"{name}: there is no such mutation"
        for name in chosen.only
        if name not in {each.id for each in listed}
    ]
    if unusable:
        sys.stderr.write("\n".join([*unusable, ""]))
        return 1
    if chosen.list:
        _say(*(f"{each.id}  {each.file}  {each.why}" for each in mutations))
        return 0

    def write(result: Result) -> None:
        if chosen.write:
            update(
                ROOT / "docs" / "reliability.md",
                listed,
                {result.mutation.id: (result.outcome, result.detail)},
            )

    results = run(mutations, ROOT, chosen.jobs, write)
    counts = Counter(result.outcome for result in results)
    _say(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 1 if FAULTY & counts.keys() else 0


def _say(*lines: object) -> None:
    """Write lines to standard output at once."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
