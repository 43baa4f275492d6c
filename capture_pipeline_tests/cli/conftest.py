"""Fixtures: a lake with two months of one symbol, and the command line on a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capture_pipeline.cli.main import main
from capture_pipeline_tests.support.command import OMITTED, OUTAGE, Run
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxDeployment]:
    """Build January and February 2025 of BTCUSDT 1h, with an unlisted outage of four hours in January.

    The clock shows noon on 20 February.
    """
    root = tmp_path_factory.mktemp("filled")
    with run_sandbox_deployment(root, {"outages": [OUTAGE], "archive_omissions": [OMITTED]}) as sandbox:
        result = CliRunner().invoke(
            main, ["klines", "backfill"], env=sandbox.environment(), catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        yield sandbox


@pytest.fixture
def sandbox(filled: SandboxDeployment, tmp_path: Path) -> SandboxDeployment:
    """Copy the lake, so that a test may damage it."""
    shutil.copytree(filled.root, tmp_path / "lake")
    filled.faults()
    return SandboxDeployment(filled.url, tmp_path / "lake")


@pytest.fixture
def run(sandbox: SandboxDeployment) -> Run:
    """Run `capture` in this process."""

    def call(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(
            main, list(arguments), env=sandbox.environment(**environment), catch_exceptions=False
        )

    return call
