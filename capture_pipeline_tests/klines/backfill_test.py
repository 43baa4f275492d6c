"""Backfill of many partitions, parallel runs, unknown symbols, and a run that is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import polars as pl
import pytest

from capture_pipeline.binance.periods import Month
from capture_pipeline.deployment import lake_guard
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import BusyError, ConfigError, ServerError
from capture_pipeline.klines import bars
from capture_pipeline.klines.backfill import Outcome, backfill, complete_partition
from capture_pipeline.klines.ingest.archives import fetch_archives
from capture_pipeline.klines.merge import MergeResult, Part, merge
from capture_pipeline.lake.locks import file_lock
from capture_pipeline.lake.paths import Partition
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment
from sandbox_exchange.rest.market_data import RestApi

REST_FAILS = {"match": {"path": "/api/v3/*"}, "fault": "status_500", "times": "always"}


def run_backfill(deployment: Deployment, *symbols: str, now_us: int | None = None) -> dict[str, Outcome]:
    """Backfill symbols and return the outcomes by partition."""
    now_us = now_us or deployment.rest.server_time_us()
    parts = deployment.partitions(symbols, deployment.months(now_us))
    return {str(outcome.partition): outcome for outcome in backfill(deployment, parts, now_us)}


def february(deployment: Deployment) -> Partition:
    return deployment.partition("BTCUSDT", Month(2025, 2))


def window(deployment: Deployment) -> dict[str, int]:
    path = deployment.lake.window(february(deployment))
    return pl.read_parquet(path, hive_partitioning=False).row(0, named=True)


def test_a_slow_run_does_not_undo_a_newer_one(
    sandbox: SandboxDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newer run waits for the slow one and builds the bars from all recorded files."""
    merging = threading.Event()

    def slow_once(parts: list[Part]) -> MergeResult:
        merged = merge(parts)
        if not merging.is_set():
            merging.set()
            time.sleep(1.5)
        return merged

    monkeypatch.setattr(bars, "merge", slow_once)
    first = sandbox.deployment
    now_us = first.rest.server_time_us()
    older = threading.Thread(target=lambda: list(backfill(first, [february(first)], now_us)))
    older.start()
    assert merging.wait(10)
    sandbox.clock(advance_s=3 * 3600)
    second = sandbox.reopened()
    later_us = second.rest.server_time_us()
    (newer,) = backfill(second, [february(second)], later_us)
    older.join(10)
    assert newer.error is None
    assert newer.bars is not None
    assert pl.read_parquet(second.lake.bars(february(second))).height == newer.bars.rows
    assert window(second)["as_of_us"] == later_us


def test_an_overtaken_run_does_not_move_the_ledger_back(sandbox: SandboxDeployment) -> None:
    """The slow run has the bars of the newer run, so its ledger has the newer run's time."""
    deployment = sandbox.deployment
    now_us = deployment.rest.server_time_us()
    fetched = fetch_archives(deployment, february(deployment), now_us)
    sandbox.clock(advance_s=3 * 3600)
    (newer,) = backfill(sandbox.reopened(), [february(deployment)], deployment.rest.server_time_us())
    as_of = window(deployment)
    overtaken = complete_partition(deployment, fetched, now_us, use_rest=False)
    assert overtaken.error is None
    assert newer.bars is not None
    assert overtaken.bars == newer.bars
    assert window(deployment) == as_of


def test_a_window_in_the_future_is_not_kept(sandbox: SandboxDeployment) -> None:
    """Such a ledger is from a run with a wrong clock."""
    deployment = sandbox.deployment
    now_us = deployment.rest.server_time_us()
    fetched = fetch_archives(deployment, february(deployment), now_us)
    complete_partition(deployment, fetched, now_us + 86_400_000_000, use_rest=False)
    complete_partition(deployment, fetched, now_us, use_rest=False)
    assert window(deployment)["as_of_us"] == now_us


def test_a_partition_held_for_long_is_an_outcome(
    sandbox: SandboxDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the owner of the lock, and nothing is written without the lock."""
    monkeypatch.setattr(lake_guard, "LOCK_TIMEOUT_S", 0.2)
    deployment = sandbox.deployment
    now_us = deployment.rest.server_time_us()
    fetched = fetch_archives(deployment, february(deployment), now_us)
    with file_lock(deployment.lake.lock(february(deployment))):
        outcome = complete_partition(deployment, fetched, now_us, use_rest=False)
    assert isinstance(outcome.error, BusyError)
    assert not deployment.lake.bars(february(deployment)).exists()


def test_an_unknown_symbol_does_not_hold_up_the_others(sandbox: SandboxDeployment) -> None:
    """The outcomes of its partitions contain the error."""
    found = run_backfill(sandbox.deployment, "NOSUCHUSDT", "BTCUSDT")
    assert {name: type(outcome.error) for name, outcome in found.items()} == {
        "NOSUCHUSDT 2025-01": ConfigError,
        "NOSUCHUSDT 2025-02": ConfigError,
        "BTCUSDT 2025-01": type(None),
        "BTCUSDT 2025-02": type(None),
    }


def test_symbols_that_are_all_unknown_are_one_error(sandbox: SandboxDeployment) -> None:
    """The error names all symbols."""
    with pytest.raises(ConfigError, match="does not know NOSUCHUSDT, NORTHISUSDT"):
        run_backfill(sandbox.deployment, "NOSUCHUSDT", "NORTHISUSDT")


def test_a_symbol_that_rest_forgot_lives_on_in_the_archive(
    sandbox: SandboxDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Months with files have bars, and no bar is expected after the last file."""
    known = RestApi._specs
    monkeypatch.setattr(
        RestApi, "_specs", lambda api: {name: spec for name, spec in known(api).items() if name != "ETHUSDT"}
    )
    sandbox.clock(now="2025-02-01T03:00:00Z")
    found = run_backfill(sandbox.deployment, "ETHUSDT")
    january, empty = found["ETHUSDT 2025-01"], found["ETHUSDT 2025-02"]
    assert (january.error, empty.error) == (None, None)
    assert january.bars is not None
    assert january.bars.by_source == {"daily": 30 * 24}
    assert january.gaps is not None
    assert empty.gaps is not None
    assert (january.gaps.missing, empty.gaps.missing) == (0, 0)


def test_a_month_without_files_while_rest_fails_is_an_outcome(sandbox: SandboxDeployment) -> None:
    """The run continues."""
    sandbox.clock(now="2025-02-01T03:00:00Z")
    deployment = sandbox.reopened(CAPTURE_HISTORY_START="2024-12-01")
    now_us = deployment.rest.server_time_us()
    sandbox.faults(REST_FAILS)
    found = run_backfill(deployment, "BTCUSDT", now_us=now_us)
    assert {name: type(outcome.error) for name, outcome in found.items()} == {
        "BTCUSDT 2024-12": type(None),
        "BTCUSDT 2025-01": ServerError,
        "BTCUSDT 2025-02": ServerError,
    }


@pytest.mark.slow
def test_an_interrupted_program_does_not_wait_for_downloads_that_hang(tmp_path: Path) -> None:
    """The program ends after the present attempt."""
    with run_sandbox_deployment(tmp_path) as sandbox:
        sandbox.faults({"match": {"path": "*.zip"}, "fault": "timeout", "stall_s": 60, "times": "always"})
        told = sandbox.environment(
            CAPTURE_HTTP_ATTEMPTS="20", CAPTURE_HTTP_READ_TIMEOUT_S="1", CAPTURE_HISTORY_START="2024-01-01"
        )
        command = [str(Path(sys.executable).with_name("capture")), "klines", "backfill"]
        process = subprocess.Popen(
            command, env={**os.environ, **told}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 30
        while not sandbox.injected():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        interrupted = time.monotonic()
        process.communicate(timeout=60)
        assert time.monotonic() - interrupted < 5
