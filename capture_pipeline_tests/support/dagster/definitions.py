"""The project's definitions, imported with the settings of a test."""

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType

import pytest

NOW = "2024-03-10T12:00:30Z"
SETTINGS = {
    "CAPTURE_SYMBOLS": "BTCUSDT,ETHUSDT",
    "CAPTURE_HISTORY_START": "2024-01-01",
    "CAPTURE_HISTORY_END": "2024-03-31",
}


def import_definitions(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import the definitions again, with the settings of an environment."""
    forget_definitions()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return importlib.import_module("capture_pipeline.definitions")


def forget_definitions() -> None:
    """Remove the modules of the definitions, because they contain the settings of a test."""
    for name in [
        name
        for name in sys.modules
        if name == "capture_pipeline.definitions" or name.startswith("capture_pipeline.defs")
    ]:
        del sys.modules[name]
    package = sys.modules["capture_pipeline"]
    for name in ("defs", "definitions"):
        if hasattr(package, name):
            delattr(package, name)
