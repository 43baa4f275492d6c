"""One sandbox exchange for the folder; each test gets its own lake and an exchange without faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from capture_pipeline.binance.periods import Month
from capture_pipeline.klines.backfill import backfill
from capture_pipeline_tests.support.deployment import NOW, SandboxDeployment
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer


@pytest.fixture(scope="session")
def exchange() -> Iterator[str]:
    """Return the address of an exchange with a fixed clock and a short history, for small listings."""
    with SandboxServer(
        SandboxConfig.model_validate({"now": NOW, "frozen": True, "listed": "2024-11-01"})
    ) as server:
        yield server.url


@pytest.fixture
def sandbox(exchange: str, tmp_path: Path) -> SandboxDeployment:
    """Return a new lake at an exchange without faults."""
    fresh = SandboxDeployment(exchange, tmp_path / "data")
    fresh.faults()
    fresh.forget_requests()
    fresh.clock(now=NOW)
    return fresh


@pytest.fixture(scope="session")
def sound_month(exchange: str, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """Return the bars of BTCUSDT 2025-01 from a backfill without faults."""
    calm = SandboxDeployment(exchange, tmp_path_factory.mktemp("sound"))
    calm.faults()
    part = calm.deployment.partition("BTCUSDT", Month(2025, 1))
    (outcome,) = backfill(calm.deployment, [part], calm.deployment.rest.server_time_us())
    assert outcome.error is None
    return pl.read_parquet(calm.deployment.lake.bars(part), hive_partitioning=False)
