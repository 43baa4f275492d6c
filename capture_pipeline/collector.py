"""Import of modules with the garbage collector paused.

Modules stay for the life of a process. While they are imported, and when the process ends, the collector
looks at their objects and finds nothing: that takes a third of the start of a command.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def pause_collector() -> Iterator[None]:
    """Pause the garbage collector inside the `with` block.

    If modules were imported in it, the collector ignores the objects that exist at its end. A process with
    DuckDB is an exception, because DuckDB reports objects that are left at the end of the process.
    """
    is_enabled, module_count = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
        if len(sys.modules) > module_count and "duckdb" not in sys.modules:
            gc.freeze()
    finally:
        if is_enabled:
            gc.enable()


def import_module(name: str) -> ModuleType:
    """Import a module with the collector paused."""
    with pause_collector():
        return importlib.import_module(name)
