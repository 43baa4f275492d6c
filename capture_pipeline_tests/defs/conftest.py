"""Fixtures: the definitions with small settings, and a deployment on a sandbox exchange for each test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from capture_pipeline.definitions import build_definitions
from capture_pipeline.settings.loader import load_settings
from capture_pipeline_tests.support.dagster.automation import NOTHING, Automation
from capture_pipeline_tests.support.dagster.definitions import NOW, SETTINGS
from capture_pipeline_tests.support.dagster.stage import Stage
from capture_pipeline_tests.support.deployment import NO_SETTINGS, QUICK, SandboxDeployment
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer


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


@pytest.fixture(scope="session")
def empty_lake_cursor(definitions: dg.Definitions) -> Any:
    """Return the cursor of the automation after two ticks that saw no event."""
    with dg.DagsterInstance.ephemeral() as instance:
        automation = Automation(definitions, instance)
        assert automation.tick() == NOTHING
        return automation.cursor


@pytest.fixture
def automation(stage: Stage, empty_lake_cursor: Any) -> Automation:
    """Return an automation that has evaluated the empty lake."""
    return Automation(stage.definitions, stage.instance, empty_lake_cursor)
