"""The list of mutations: faults put into the product on purpose, and the tests that must notice each of them."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
_TESTS = "capture_pipeline_tests"


@dataclass(frozen=True)
class Mutation:
    """One change of one file.

    Attributes:
        id: Unique name.
        file: File to change, relative to the project.
        find: Text that occurs exactly once in the file.
        replace: Text that takes its place.
        test: Node ids of the tests that must fail, relative to the folder of tests.
        why: Promise that the change breaks.
        guard: Second guard that keeps the promise in spite of the change; empty where the tests must fail.
    """

    id: str
    file: str
    find: str
    replace: str
    test: tuple[str, ...]
    why: str
    guard: str = ""

    @property
    def nodes(self) -> list[str]:
        """Node ids of the tests, relative to the project."""
        return [f"{_TESTS}/{test.removeprefix(f'{_TESTS}/')}" for test in self.test]

    def apply(self, text: str) -> str:
        """Return the changed text of the file.

        Raises:
            ValueError: The text to find occurs never or more than once.
        """
        count = text.count(self.find)
        if count != 1:
            raise ValueError(
                f"the text to find occurs {count} times in {self.file}, once is needed; update the entry"
            )
        return text.replace(self.find, self.replace)


def load(folder: Path = FOLDER) -> list[Mutation]:
    """Read every list in a folder, in the order of file names."""
    return [
        _mutation(entry)
        for path in sorted(folder.glob("*.yaml"))
        for entry in yaml.safe_load(path.read_text())
    ]


def problems(mutations: list[Mutation], root: Path = ROOT) -> list[str]:
    """Return what keeps entries from being applied: an ambiguous or missing text, a change that does not compile, an unknown test."""
    ids = [mutation.id for mutation in mutations]
    found = [
        f"{name}: the id occurs more than once"
        for name in sorted({name for name in ids if ids.count(name) > 1})
    ]
    known: dict[Path, set[str]] = {}
    for mutation in mutations:
        found += _problems(mutation, root, known)
    return found


def _mutation(entry: dict[str, Any]) -> Mutation:
    return Mutation(**{**entry, "test": tuple(entry["test"])})


def _problems(mutation: Mutation, root: Path, known: dict[Path, set[str]]) -> list[str]:
    path = root / mutation.file
    if not path.is_file():
        return [f"{mutation.id}: {mutation.file} does not exist"]
    try:
        changed = mutation.apply(path.read_text())
        if path.suffix == ".py":
            compile(changed, mutation.file, "exec")
    except (ValueError, SyntaxError) as error:
        return [f"{mutation.id}: {error}"]
    found = [] if mutation.find != mutation.replace else [f"{mutation.id}: nothing is changed"]
    found += [] if mutation.test else [f"{mutation.id}: no test is named"]
    return found + [
        f"{mutation.id}: there is no test {node}" for node in mutation.nodes if not _exists(node, root, known)
    ]


def _exists(node: str, root: Path, known: dict[Path, set[str]]) -> bool:
    """Whether a file of tests defines the function of a node id; the values of its parameters are not looked at."""
    name, _, function = node.partition("[")[0].partition("::")
    path = root / name
    if path not in known:
        tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
        known[path] = {
            each.name for each in tree.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
    return function in known[path] if function else bool(known[path])
