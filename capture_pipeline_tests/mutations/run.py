"""Program `make mutations`: apply each mutation to a copy of the project, and check that its tests fail.

The copy is a temporary folder at the start of the Python path, so that programs started by tests use it too.
First, all tests run without a mutation. A test that fails or is skipped then proves nothing, and its
mutations are errors.
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
from capture_pipeline_tests.mutations.table import update_table

_PACKAGES = ("capture_pipeline", "capture_pipeline_tests")
_IGNORED = {
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
_TIME_LIMIT_FACTOR = 10
"""Time limit of a run with a mutation, as a multiple of the time without."""


class Outcome(StrEnum):
    """Outcome of a mutation."""

    KILLED = "killed"
    """A test failed."""
    TIMEOUT = "timeout"
    """The tests exceeded the time limit, which the limit of the suite detects too."""
    GUARDED = "guarded"
    """The tests passed, and the entry states a guard."""
    SURVIVED = "survived"
    """The tests passed."""
    ERROR = "error"
    """The mutation could not be tested."""


FAILURES = {Outcome.SURVIVED, Outcome.ERROR}


@dataclass(frozen=True)
class Result:
    """Outcome of one mutation.

    Attributes:
        mutation: Mutation that was tested.
        outcome: Outcome of the tests.
        detail: Name of a failed test, or a reason.
        seconds: Duration.
    """

    mutation: Mutation
    outcome: Outcome
    detail: str
    seconds: float = 0.0


class Runner:
    """Runner of mutations on copies of one project."""

    def __init__(self, root: Path, work: Path, min_limit_s: float = 120.0) -> None:
        """Copy the project.

        Args:
            root: Folder of the project.
            work: Empty folder for copies.
            min_limit_s: Minimum time limit of a run with a mutation.
        """
        self._work, self._min_limit_s = work, min_limit_s
        self._base = work / "base"
        self._seconds: dict[str, float] = {}
        self._passed: set[str] = set()
        shutil.copytree(root, self._base, ignore=_ignored_names, symlinks=True)
        shared = root.parent / "shared"
        if shared.is_dir():  # recordings that tests read in place
            (work / "shared").symlink_to(shared)

    def run_without_mutations(self, mutations: Iterable[Mutation]) -> None:
        """Run all tests on the unchanged copy, which also caches kernels; store results and durations."""
        nodes = sorted({node for mutation in mutations for node in mutation.nodes})
        self._check_path()
        self._run_unchanged(nodes)
        failed = [node for node in self._seconds if node not in self._passed]
        if failed:  # a busy machine may have been too slow for a test
            self._run_unchanged(failed)

    def _run_unchanged(self, nodes: list[str]) -> None:
        report = self._work / "report.xml"
        output = self._pytest(
            self._base, [*nodes, f"--junit-xml={report}", "-o", "junit_family=xunit1"], None
        )
        if not report.is_file():
            raise RuntimeError(f"the tests could not be run:\n{output}")
        for case in ET.parse(report).getroot().iter("testcase"):
            node = f"{case.get('file')}::{case.get('name')}"
            self._seconds[node] = float(case.get("time") or 0)
            if not len(case):
                self._passed.add(node)

    def try_mutation(self, mutation: Mutation) -> Result:
        """Apply a mutation to a copy of the project and run its tests."""
        names = {node: [each for each in self._seconds if _selects(node, each)] for node in mutation.nodes}
        unusable = [node for node, cases in names.items() if not cases or not self._passed.issuperset(cases)]
        if unusable:
            return Result(
                mutation, Outcome.ERROR, f"fails or is skipped without the mutation: {', '.join(unusable)}"
            )
        usual_s = sum(self._seconds[each] for cases in names.values() for each in cases)
        start_s = time.monotonic()
        with self._copy(mutation) as copy:
            report = copy.with_suffix(".xml")
            try:
                arguments = ["-x", *mutation.nodes, f"--junit-xml={report}", "-o", "junit_family=xunit1"]
                code, output = self._pytest(copy, arguments, self._min_limit_s + _TIME_LIMIT_FACTOR * usual_s)
            except subprocess.TimeoutExpired:
                return Result(mutation, Outcome.TIMEOUT, "", time.monotonic() - start_s)
        return self._create_result(mutation, code, output, time.monotonic() - start_s)

    def _create_result(self, mutation: Mutation, code: int, output: str, seconds: float) -> Result:
        failed = [line.split()[1] for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        if code == _FAILED and failed:
            return Result(mutation, Outcome.KILLED, failed[0], seconds)
        if code == 0:
            return Result(
                mutation, Outcome.GUARDED if mutation.guard else Outcome.SURVIVED, mutation.guard, seconds
            )
        return Result(mutation, Outcome.ERROR, f"pytest ended with {code}: {output[-600:]}", seconds)

    @contextmanager
    def _copy(self, mutation: Mutation) -> Iterator[Path]:
        """Create a copy with the mutation, of hard links except for the changed file, and remove it."""
        copy = self._work / mutation.id
        shutil.copytree(self._base, copy, copy_function=os.link, symlinks=True)
        try:
            path = copy / mutation.file
            text = path.read_text()
            path.unlink()
            path.write_text(mutation.apply(text))
            if any(mark in text for mark in _KERNELS):
                # The cache of a kernel contains the kernels that it calls and does not detect their changes.
                # All of them are in the same folder.
                for compiled in [each for each in path.parent.rglob("*") if each.suffix in _COMPILED]:
                    compiled.unlink()
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _check_path(self) -> None:
        """Check that Python imports the packages of the copy."""
        code = f"import {', '.join(_PACKAGES)}; print({_PACKAGES[0]}.__file__)"
        command = [sys.executable, "-c", code]
        location = subprocess.run(
            command, env=_environment(self._base), cwd=self._work, capture_output=True, text=True, check=True
        ).stdout
        if not Path(location.strip()).is_relative_to(self._base):
            raise RuntimeError(f"Python imports {location.strip()} and not the copy in {self._base}")

    def _pytest(self, copy: Path, arguments: list[str], limit_s: float | None) -> tuple[int, str]:
        """Run tests in a copy as a process group; return exit code and output."""
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
        with subprocess.Popen(
            command,
            cwd=copy,
            env=_environment(copy),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=limit_s)
            finally:
                _kill_group(process)
        return process.returncode, output


def _ignored_names(folder: str, names: list[str]) -> set[str]:
    """Return the names that are not copied; of the Dagster instance only the settings are copied."""
    if Path(folder).name == "dagster_home":
        return {name for name in names if not name.endswith(".yaml")}
    return _IGNORED & set(names)


def _environment(copy: Path) -> dict[str, str]:
    """Return an environment in which Python imports the copy and caches compiled kernels in it."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in {"NUMBA_CACHE_DIR", "PYTHONDONTWRITEBYTECODE"}
    }
    return {
        **inherited,
        "PYTHONPATH": str(copy),
        "TMPDIR": str(copy.parent),
        "TEST_TOOLS": inherited.get("TEST_TOOLS", ""),
    }


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Kill all processes of a run that exceeded its time limit."""
    if process.poll() is None:
        os.killpg(process.pid, 9)


def _selects(node: str, case: str) -> bool:
    """Return whether a node id selects a test case."""
    return case == node or case.startswith((f"{node}[", f"{node}::"))


def run(
    mutations: list[Mutation],
    root: Path,
    jobs: int,
    on_result: Callable[[Result], None] = lambda _: None,
    min_limit_s: float = 120.0,
) -> list[Result]:
    """Run mutations, pass each result to `on_result`, and return the results in the order of the list."""
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="mutations-", ignore_cleanup_errors=True) as folder:
        runner = Runner(root, Path(folder).resolve(), min_limit_s)
        _print_lines(f"{len(mutations)} mutations; first, the tests run without a mutation")
        runner.run_without_mutations(mutations)
        with ThreadPoolExecutor(jobs) as pool:
            for future in as_completed(
                [pool.submit(runner.try_mutation, mutation) for mutation in mutations]
            ):
                result = future.result()
                results[result.mutation.id] = result
                on_result(result)
                _print_lines(
                    f"{result.outcome:9} {result.mutation.id}  {result.seconds:.0f} s  {result.detail}"
                )
    return [results[mutation.id] for mutation in mutations]


def main(arguments: list[str] | None = None) -> int:
    """Run the selected mutations; return 1 if one survives without a guard or could not be tested."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", action="append", default=[], metavar="ID", help="run this mutation; may be repeated"
    )
    parser.add_argument(
        "--file", default="", metavar="TEXT", help="run mutations of files whose path contains this text"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="number of parallel runs")
    parser.add_argument("--write", action="store_true", help="write the results into docs/reliability.md")
    parser.add_argument("--list", action="store_true", help="print the mutations and run none")
    options = parser.parse_args(arguments)
    all_mutations = load()
    mutations = [
        each
        for each in all_mutations
        if options.file in each.file and (not options.only or each.id in options.only)
    ]
    unusable = problems(mutations) + [
        f"{name}: there is no such mutation"
        for name in options.only
        if name not in {each.id for each in all_mutations}
    ]
    if unusable:
        sys.stderr.write("\n".join([*unusable, ""]))
        return 1
    if options.list:
        _print_lines(*(f"{each.id}  {each.file}  {each.why}" for each in mutations))
        return 0

    def write(result: Result) -> None:
        if options.write:
            update_table(
                ROOT / "docs" / "reliability.md",
                all_mutations,
                {result.mutation.id: (result.outcome, result.detail)},
            )

    results = run(mutations, ROOT, options.jobs, write)
    counts = Counter(result.outcome for result in results)
    _print_lines(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 1 if FAILURES & counts.keys() else 0


def _print_lines(*lines: object) -> None:
    """Write lines to standard output at once."""
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
