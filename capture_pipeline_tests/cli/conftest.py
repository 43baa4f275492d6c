"""A lake with two months of one symbol, made once, and the command line over a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capture_pipeline.cli.main import main
from capture_pipeline_tests.support.command import OMITTED, OUTAGE, Run
from capture_pipeline_tests.support.deployment import Deployment, deployed


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """January and February 2025 of BTCUSDT 1h at noon on 20 February, with an unlisted outage of four hours in January."""
    root = tmp_path_factory.mktemp("filled")
    with deployed(root, {"outages": [OUTAGE], "archive_omissions": [OMITTED]}) as deployment:
        result = CliRunner().invoke(
            main, ["klines", "backfill"], env=deployment.environment(), catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        yield deployment


@pytest.fixture
def deployment(filled: Deployment, tmp_path: Path) -> Deployment:
    """The same lake, a copy that a test may spoil."""
    shutil.copytree(filled.root, tmp_path / "lake")
    filled.faults()
    return Deployment(filled.url, tmp_path / "lake")


@pytest.fixture
def run(deployment: Deployment) -> Run:
    """Run `capture` in this process."""

    def call(*arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(
            main, list(arguments), env=deployment.environment(**environment), catch_exceptions=False
        )

    return call
