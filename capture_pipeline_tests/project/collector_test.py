"""Imports with the garbage collector paused, in a new process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys
from capture_pipeline.collector import import_module, pause_collector

class Observer:
    def find_spec(self, name, path, target=None):
        states.add(gc.isenabled())

states = set()
sys.meta_path.insert(0, Observer())
import_module("capture_pipeline.settings.loader")
assert states == {False}, states
assert gc.isenabled()
frozen = gc.get_freeze_count()
assert frozen > 1000
garbage = []
garbage.append(garbage)
import_module("capture_pipeline.settings.loader")
assert gc.get_freeze_count() == frozen
try:
    with pause_collector():
        raise ValueError
except ValueError:
    assert gc.isenabled()
gc.disable()
with pause_collector():
    pass
assert not gc.isenabled()
"""


def test_collector_is_paused_only_during_an_import() -> None:
    """Objects of modules are excluded from collections; a second import of a module excludes no others."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)


@pytest.mark.parametrize(
    "load",
    [
        "import capture_pipeline.definitions as loaded; loaded.defs().get_repository_def()",
        "from capture_pipeline.cli.main import main; main(['klines', 'gaps', '-h'], standalone_mode=False)",
        "import capture_pipeline.recorder.__main__",
    ],
    ids=["definitions", "command", "recorder"],
)
def test_processes_start_with_a_paused_collector(load: str) -> None:
    """Collections during the imports would take a third of the start."""
    program = f"import gc; assert gc.get_freeze_count() == 0; {load}; assert gc.get_freeze_count() > 10_000"
    command = [sys.executable, "-W", "ignore", "-c", program]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ended.stderr == ""


def test_process_with_duckdb_ends_without_a_report_of_leaks() -> None:
    """DuckDB reports objects that the collector ignores at the end of the process."""
    load = "from capture_pipeline.collector import import_module; import_module('capture_pipeline.cli.sql')"
    later = (
        f"{load.replace('cli.sql', 'tables.registry')}; import duckdb; duckdb.connect().execute('SELECT 1')"
    )
    for program in (load, later):
        ended = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        assert ended.stderr == ""
