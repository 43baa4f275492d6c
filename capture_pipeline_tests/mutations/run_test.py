"""Tests of the list of mutations and of their runner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from capture_pipeline_tests.mutations import run
from capture_pipeline_tests.mutations.listing import Mutation, load, problems
from capture_pipeline_tests.mutations.run import Outcome
from capture_pipeline_tests.mutations.table import BEGIN, END, update_table

PRODUCT = "def double(number):\n    return number * 2\n\n\ndef wait():\n    return None\n"
TESTS = """
import subprocess, sys

import pytest

from capture_pipeline.sums import double, wait

def test_double():
    assert double(3) == 6

@pytest.mark.parametrize("number", [1, 2])
def test_double_in_another_process(number):
    code = "import sys; from capture_pipeline.sums import double; print(double(int(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(number)]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    assert output == f"{2 * number}\\n"

def test_nothing():
    wait()

def test_red():
    assert double(1) == 3

@pytest.mark.skip(reason="absent")
def test_skipped():
    pass
"""
FAULT = Mutation(
    "fault",
    "capture_pipeline/sums.py",
    "number * 2",
    "number * 3",
    ("sums_test.py::test_double",),
    "sums are right",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for package, name, text in (
        ("capture_pipeline", "sums.py", PRODUCT),
        ("capture_pipeline_tests", "sums_test.py", TESTS),
    ):
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").touch()
        (root / package / name).write_text(text)
    (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = ["--import-mode=importlib"]\n')
    return root


def test_every_entry_fits_its_file_and_its_tests() -> None:
    """For each entry, the text to find occurs once, the change compiles, and the tests exist."""
    mutations = load()
    assert problems(mutations) == []
    assert len(mutations) >= 120


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"find": "number * 4"}, "fault: the text to find occurs 0 times in capture_pipeline/sums.py"),
        ({"find": "number"}, "fault: the text to find occurs 2 times"),
        ({"find": "return number * 2", "replace": "return number *"}, "fault: invalid syntax"),
        ({"replace": "number * 2"}, "fault: nothing is changed"),
        ({"file": "capture_pipeline/other.py"}, "fault: capture_pipeline/other.py does not exist"),
        ({"test": ()}, "fault: no test is named"),
        (
            {"test": ("sums_test.py::test_other",)},
            "fault: there is no test capture_pipeline_tests/sums_test.py::test_other",
        ),
        ({"test": ("other_test.py",)}, "fault: there is no test capture_pipeline_tests/other_test.py"),
    ],
)
def test_entry_that_does_not_fit_is_named(change: dict[str, object], message: str, project: Path) -> None:
    """The message begins with the id of the entry; a valid entry has no message."""
    assert problems([FAULT], project) == []
    errors = problems([replace(FAULT, **change)], project)  # type: ignore[arg-type]
    assert [each[: len(message)] for each in errors] == [message]
    assert problems([FAULT, FAULT], project) == ["fault: the id occurs more than once"]


@pytest.mark.slow
def test_runner_tells_what_became_of_each_fault(project: Path) -> None:
    """The runner distinguishes all outcomes; tests that fail without a mutation give an error."""
    harmless = {"find": "return None", "replace": "return 7", "test": ("sums_test.py::test_nothing",)}
    cases = [
        (FAULT, Outcome.KILLED),
        (
            replace(FAULT, id="process", test=("sums_test.py::test_double_in_another_process[2]",)),
            Outcome.KILLED,
        ),
        (replace(FAULT, id="all", test=("sums_test.py::test_double_in_another_process",)), Outcome.KILLED),
        (replace(FAULT, id="survivor", **harmless), Outcome.SURVIVED),  # type: ignore[arg-type]
        (replace(FAULT, id="guarded", guard="unused", **harmless), Outcome.GUARDED),  # type: ignore[arg-type]
        (replace(FAULT, id="red", test=("sums_test.py::test_red",)), Outcome.ERROR),
        (replace(FAULT, id="skipped", test=("sums_test.py::test_skipped",)), Outcome.ERROR),
    ]
    results = run.run([mutation for mutation, _ in cases], project, jobs=2)
    assert [(each.mutation.id, each.outcome) for each in results] == [
        (mutation.id, outcome) for mutation, outcome in cases
    ]
    assert (project / "capture_pipeline" / "sums.py").read_text() == PRODUCT


@pytest.mark.slow
def test_mutation_without_an_end_is_a_timeout(project: Path) -> None:
    """The runner ends the tests at the time limit."""
    endless = replace(
        FAULT,
        find="return None",
        replace="import time; time.sleep(600)",
        test=("sums_test.py::test_nothing",),
    )
    (result,) = run.run([endless], project, jobs=1, min_limit_s=5.0)
    assert result.outcome is Outcome.TIMEOUT
    assert result.seconds < 120


@pytest.mark.parametrize(
    ("outcome", "code"), [("killed", 0), ("guarded", 0), ("timeout", 0), ("survived", 1), ("error", 1)]
)
def test_survivor_without_a_guard_gives_exit_code_1(
    outcome: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mutation that could not be tested, or is unknown, gives exit code 1 too."""
    mutations = load()[:2]
    monkeypatch.setattr(run, "load", lambda: mutations)
    monkeypatch.setattr(
        run, "run", lambda mutations, *_: [run.Result(each, Outcome(outcome), "") for each in mutations]
    )
    assert run.main(["--only", mutations[1].id]) == code
    assert run.main(["--only", "no-such-mutation"]) == 1


def test_table_keeps_the_results_of_mutations_that_were_not_run(tmp_path: Path) -> None:
    """The table has the mutations of the list in order; the rest of the page does not change."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\n{END}\nafter\n")
    one, two = FAULT, replace(FAULT, id="two", why="a | b", guard="something else")
    update_table(page, [one, two], {"fault": ("killed", ""), "two": ("guarded", "")})
    update_table(page, [two, one, replace(one, id="new")], {"two": ("killed", "")})
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    assert [(row.split("`")[1], row.strip(" |").rpartition(" | ")[2]) for row in rows] == [
        ("two", "killed: something else"),
        ("fault", "killed"),
        ("new", "not run"),
    ]
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")
    page.write_text("no markers")
    with pytest.raises(ValueError, match="lacks the markers"):
        update_table(page, [], {})
