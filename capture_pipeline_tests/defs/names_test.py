"""Partitions of symbols with non-ASCII names, materialized and checked by Dagster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from capture_pipeline_tests.support.deployment import run_sandbox_deployment

pytestmark = pytest.mark.slow

PROGRAM = """
import json, sys
import dagster as dg
from capture_pipeline.definitions import defs

with dg.DagsterInstance.ephemeral() as instance:
    result = defs().resolve_job_def("month_close").execute_in_process(
        instance=instance,
        partition_key=sys.argv[1],
        run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
    )
    records = instance.fetch_materializations(dg.AssetKey("bars"), limit=10).records
    evaluations = result.get_asset_check_evaluations()
    checks = {check.check_name: [check.passed, check.partition] for check in evaluations}
    partitions = [record.partition_key for record in records]
    print(json.dumps({"success": result.success, "partitions": partitions, "checks": checks}))
"""


@pytest.mark.parametrize(("market", "symbol"), [("spot", "币安人生USDT"), ("um", "BTCUSDT_240329")])
def test_a_partition_of_any_symbol_is_materialized_and_checked(
    market: str, symbol: str, tmp_path: Path
) -> None:
    """The key contains the symbol, and the bars are in its folder."""
    config = {
        "symbols": [{"symbol": symbol, "trades_per_day": 1440}],
        "listed": "2024-12-20",
        "now": "2025-02-03T12:00:00Z",
    }
    limits = {"CAPTURE_HISTORY_END": "2025-01-31"}
    key = f"2025-01|{symbol}"
    with run_sandbox_deployment(
        tmp_path / "data", config, CAPTURE_MARKET=market, CAPTURE_SYMBOLS=symbol, **limits
    ) as sandbox:
        environment = {**os.environ, **sandbox.environment()}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, key], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        output = json.loads(done.stdout.splitlines()[-1])
        assert (output["success"], output["partitions"]) == (True, [key])
        assert [name for name, (passed, _) in output["checks"].items() if not passed] == []
        assert {partition for _, partition in output["checks"].values()} == {key}
        deployment = sandbox.deployment
        (part,) = deployment.partitions([symbol], deployment.months(deployment.now_us()))
        assert pl.read_parquet(deployment.lake.bars(part), hive_partitioning=True)[
            "symbol"
        ].unique().to_list() == [symbol]
