"""Fixtures: the definitions with small settings, and a deployment on a sandbox exchange for each test."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest

from capture_pipeline_tests.defs.stage import Stage
from capture_pipeline_tests.deployment import NO_SETTINGS, QUICK, SandboxDeployment
from sandbox_exchange.config import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

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


@pytest.fixture(scope="session")
def definitions() -> Iterator[dg.Definitions]:
    """Load the project's definitions with two symbols and three months."""
    with pytest.MonkeyPatch.context() as patch:
        module = import_definitions({**QUICK, **SETTINGS, "CAPTURE_CONFIG": str(NO_SETTINGS)}, patch)
    yield module.defs
    forget_definitions()


@pytest.fixture(scope="session")
def exchange() -> Iterator[str]:
    """Start a sandbox exchange with a frozen clock; yield its address."""
    with SandboxServer(SandboxConfig.model_validate({"now": NOW, "frozen": True})) as server:
        yield server.url


@pytest.fixture
def sandbox(exchange: str, tmp_path: Path) -> SandboxDeployment:
    """Create a new lake at an exchange without faults, on 10 March 2024."""
    fresh = SandboxDeployment(exchange, tmp_path / "data", **SETTINGS)
    fresh.faults()
    fresh.forget_requests()
    fresh.clock(now=NOW)
    return fresh


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def stage(definitions: dg.Definitions, sandbox: SandboxDeployment, instance: dg.DagsterInstance) -> Stage:
    return Stage(definitions, sandbox, instance)
