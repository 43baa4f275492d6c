"""List of mutations: deliberate faults in the product, and the tests that must detect each fault."""

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
    """Change of one file.

    Attributes:
        id: Unique name.
        file: File to change, relative to the project.
        find: Text that occurs exactly once in the file.
        replace: Replacement text.
        test: Node ids of the tests that must fail, relative to the folder of tests.
        why: Promise of the product that the change breaks.
        guard: Second guard that keeps the promise despite the change; empty if the tests must fail.
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
            ValueError: The text to find does not occur exactly once.
        """
        count = text.count(self.find)
        if count != 1:
            raise ValueError(
                f"the text to find occurs {count} times in {self.file} instead of once; update the entry"
            )
        return text.replace(self.find, self.replace)


def load(folder: Path = FOLDER) -> list[Mutation]:
    """Read every list in a folder, in the order of file names."""
    return [
        _parse_entry(entry)
        for path in sorted(folder.glob("*.yaml"))
        for entry in yaml.safe_load(path.read_text())
    ]


def problems(mutations: list[Mutation], root: Path = ROOT) -> list[str]:
    """Describe invalid entries.

    An entry is invalid if its text does not occur exactly once, its change does not compile, or a test is
    unknown.
    """
    ids = [mutation.id for mutation in mutations]
    errors = [
        f"{name}: the id occurs more than once"
        for name in sorted({name for name in ids if ids.count(name) > 1})
    ]
    test_names: dict[Path, set[str]] = {}
    for mutation in mutations:
        errors += _check_entry(mutation, root, test_names)
    return errors


def _parse_entry(entry: dict[str, Any]) -> Mutation:
    return Mutation(**{**entry, "test": tuple(entry["test"])})


def _check_entry(mutation: Mutation, root: Path, test_names: dict[Path, set[str]]) -> list[str]:
    path = root / mutation.file
    if not path.is_file():
        return [f"{mutation.id}: {mutation.file} does not exist"]
    try:
        changed = mutation.apply(path.read_text())
        if path.suffix == ".py":
            compile(changed, mutation.file, "exec")
    except (ValueError, SyntaxError) as error:
        return [f"{mutation.id}: {error}"]
    errors = [] if mutation.find != mutation.replace else [f"{mutation.id}: nothing is changed"]
    errors += [] if mutation.test else [f"{mutation.id}: no test is named"]
    return errors + [
        f"{mutation.id}: there is no test {node}"
        for node in mutation.nodes
        if not _exists(node, root, test_names)
    ]


def _exists(node: str, root: Path, test_names: dict[Path, set[str]]) -> bool:
    """Return whether a test module defines the function of a node id; parameter values are ignored."""
    name, _, function = node.partition("[")[0].partition("::")
    path = root / name
    if path not in test_names:
        tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
        test_names[path] = {
            each.name for each in tree.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
    return function in test_names[path] if function else bool(test_names[path])
