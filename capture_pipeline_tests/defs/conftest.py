"""Fixtures: the definitions with small settings, and a deployment on a sandbox exchange for each test."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from capture_pipeline.definitions import build_definitions
from capture_pipeline.settings.loader import load_settings
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


@pytest.fixture(scope="session")
def definitions() -> dg.Definitions:
    """Build the definitions with two symbols and three months."""
    return build_definitions(load_settings(NO_SETTINGS, {**QUICK, **SETTINGS}))


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
