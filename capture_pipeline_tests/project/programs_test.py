"""Tests that benchmarks and long tests, which the suite does not run, import and call known commands."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest

from capture_pipeline.cli.main import main

ROOT = Path(__file__).parents[2]
BENCHMARKS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("peer_"))
SOAK = sorted(
    path for path in (ROOT / "capture_pipeline_tests/soak").rglob("*.py") if path.stem != "__init__"
)


def find_commands(path: Path) -> Iterator[list[str]]:
    """Yield the words after the program `capture` in each list of a module, up to the first option."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.List):
            continue
        for number, element in enumerate(node.elts):
            if not isinstance(element, ast.Constant) and "capture" in ast.unparse(element).lower():
                words = [str(getattr(word, "value", "-")) for word in node.elts[number + 1 :]]
                yield list(takewhile(lambda word: not word.startswith("-"), words))


def find_unknown(words: list[str]) -> str:
    """Return the first word that is not a group, a command or its argument; empty if there is none."""
    command: click.Command | None = main
    for word in words:
        if not isinstance(command, click.Group):
            return ""
        command = command.get_command(click.Context(command), word)
        if command is None:
            return word
    return ""


def test_benchmarks_and_long_tests_call_commands_that_exist() -> None:
    found = [(path.name, words) for path in (*BENCHMARKS, *SOAK) for words in find_commands(path) if words]
    assert ("bench_starts.py", ["klines", "backfill"]) in found
    assert [(name, words) for name, words in found if find_unknown(words)] == []
    assert find_unknown(["klines", "klines", "backfill"]) == "klines"


@pytest.mark.parametrize("path", SOAK, ids=lambda path: path.stem)
def test_a_long_test_is_imported(path: Path) -> None:
    importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def test_benchmarks_are_imported() -> None:
    """Names of the product that a benchmark uses exist."""
    names = [path.stem for path in BENCHMARKS]
    program = f"import importlib\nfor name in {names}: importlib.import_module(name)\n"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT / "benchmarks", check=True, timeout=120)
