"""Real files of the exchange in the whole pipeline: every bar is present and unaltered."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from capture_pipeline.binance.archive.klines.parser import parse_rest
from capture_pipeline.binance.periods import Month, parse_time
from capture_pipeline.klines.merge import Part, merge
from capture_pipeline_tests.support.deployment import SandboxDeployment
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

COLUMNS = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    None,
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)


@contextmanager
def run_backfill(
    recordings: Path, tmp_path: Path, market: str, *arguments: str
) -> Iterator[tuple[SandboxDeployment, dict[str, Any]]]:
    """Serve the recorded files and run `capture klines backfill` as a process."""
    with SandboxServer(SandboxConfig.model_validate({"recorded": recordings / "binance_archive"})) as server:
        sandbox = SandboxDeployment(server.url, tmp_path / "data", CAPTURE_MARKET=market)
        settings = tmp_path / "pipeline.yaml"
        settings.write_text(
            f"venue: sandbox\nsandbox_url: {server.url}\nmarket: {market}\nstorage: {{root: data}}\n"
        )
        command = [
            str(Path(sys.executable).with_name("capture")),
            "klines",
            "backfill",
            "--config",
            str(settings),
            "--json",
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        yield sandbox, json.loads(done.stdout)


def read_csv_rows(file: Path) -> dict[int, tuple[object, ...]]:
    """Read the file's rows by open time in microseconds, without the project's parser."""
    found: dict[int, tuple[object, ...]] = {}
    with file.open(newline="") as text:
        for row in csv.reader(text):
            if row[0].isdigit():
                factor = 1 if len(row[0]) == 16 else 1000
                values = [
                    int(value) if name == "trades" else Decimal(value)
                    for name, value in zip(COLUMNS, row[1:11], strict=True)
                    if name
                ]
                found[int(row[0]) * factor] = (*values, int(row[6]) * factor, "us" if factor == 1 else "ms")
    return found


def read_lake_rows(
    sandbox: SandboxDeployment, symbol: str, interval: str, month: Month
) -> dict[int, tuple[object, ...]]:
    """Read the lake's rows in the same form."""
    deployment = sandbox.reopened(CAPTURE_INTERVAL=interval)
    table = pl.read_parquet(
        deployment.lake.bars(deployment.partition(symbol, month)), hive_partitioning=False
    )
    names = [name for name in COLUMNS if name]
    return {
        row[0]: row[1:]
        for row in table.select("open_time_us", *names, "close_time_us", "time_unit").iter_rows()
    }


def test_the_spot_hours_come_through_unaltered_over_the_change_of_unit(
    recordings: Path, tmp_path: Path
) -> None:
    """ETHUSDT 1h, 2024-11 to 2025-02, without headers; the unit changes from milliseconds to microseconds."""
    arguments = ("--symbol", "ETHUSDT", "--interval", "1h", "--from", "2024-11", "--to", "2025-02")
    with run_backfill(recordings, tmp_path, "spot", *arguments) as (sandbox, told):
        for month in Month.range(Month(2024, 11), Month(2025, 2)):
            expected = read_csv_rows(recordings / "binance_archive" / f"ETHUSDT-1h-{month}.csv")
            assert read_lake_rows(sandbox, "ETHUSDT", "1h", month) == expected
    assert [
        (row["month"], row["bars"], row["missing"], row["state"])
        for row in sorted(told["partitions"], key=lambda row: str(row["month"]))
    ] == [
        ("2024-11", 720, 0, "ok"),
        ("2024-12", 744, 0, "ok"),
        ("2025-01", 744, 0, "ok"),
        ("2025-02", 672, 0, "ok"),
    ]
    december, january = (
        read_lake_rows(sandbox, "ETHUSDT", "1h", month) for month in (Month(2024, 12), Month(2025, 1))
    )
    assert december[parse_time("2024-12-31T23:00:00Z")][3] == january[parse_time("2025-01-01T00:00:00Z")][0]


@pytest.mark.parametrize(("month", "bars"), [("2024-11", 43_200), ("2025-02", 40_320)])
def test_the_futures_minutes_come_through_unaltered_with_their_header(
    month: str, bars: int, recordings: Path, tmp_path: Path
) -> None:
    """NEARUSDT 1m, USD-M futures, with headers, in milliseconds also in 2025."""
    arguments = ("--symbol", "NEARUSDT", "--interval", "1m", "--from", month, "--to", month)
    with run_backfill(recordings, tmp_path, "um", *arguments) as (sandbox, told):
        expected = read_csv_rows(recordings / "binance_archive" / f"NEARUSDT-1m-{month}.csv")
        found = read_lake_rows(sandbox, "NEARUSDT", "1m", Month.parse(month))
    assert found == expected
    assert [(row["bars"], row["missing"]) for row in told["partitions"]] == [(bars, 0)]
    assert {row[-1] for row in found.values()} == {"ms"}


def test_recorded_rest_pages_parse_and_their_overlaps_merge(recordings: Path) -> None:
    """Overlapping 1d pages of BTCUSDT give each day once.

    Three days that the exchange revised in between are conflicts.
    """
    parts: dict[tuple[str, str], list[Part]] = {}
    for file in sorted((recordings / "binance_rest_klines").glob("*.json")):
        query = dict(each.split("-", 1) for each in file.stem.split("__"))
        rows = parse_rest(file.read_bytes(), file.name)
        assert rows.height == len(json.loads(file.read_bytes()))
        parts.setdefault((query["symbol"], query["interval"]), []).append(Part("rest", file.name, rows))
    daily = merge(parts["BTCUSDT", "1d"])
    revised = {parse_time(day) for day in ("2019-05-08", "2019-10-01", "2019-12-04")}
    assert set(daily.conflicts["open_time_us"]) == revised
    assert daily.duplicates == 728
    assert daily.bars.height == daily.bars["open_time_us"].n_unique() == 540
    assert merge(parts["BTCUSDT", "1d"] * 2).bars.equals(daily.bars)
