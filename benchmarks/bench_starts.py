"""Benchmark of process starts: one backfill of 24 symbol-months, compared with 24 of one month."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from inputs import FEW, OUT, ensure_zips
from processes import Run, Series, run_program
from report import Finding, ratio

from capture_pipeline.binance.periods import Month
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

NAME = "starts"
_SYMBOLS = ("BTCUSDT", "ETHUSDT")
_MONTHS = [str(month) for month in Month.range(Month(2021, 1), Month(2021, 12))]
_CAPTURE = Path(sys.executable).with_name("capture")


def measure(repeats: int) -> tuple[list[Finding], list[Series]]:
    """Measure whole programs, including their start."""
    one, many = Series(f"one process for {FEW}"), Series(f"{FEW} processes")
    with SandboxServer(SandboxConfig(recorded=ensure_zips())) as server:
        for _ in range(repeats):
            one.runs.append(_backfill(server.url, [(",".join(_SYMBOLS), _MONTHS[0], _MONTHS[-1])]))
            many.runs.append(
                _backfill(server.url, [(symbol, month, month) for symbol in _SYMBOLS for month in _MONTHS])
            )
    findings = [
        ratio(NAME, f"one backfill of {FEW} symbol-months: times as fast as {FEW} of one", many, one),
        ratio(NAME, "… in CPU time", many, one, figure="cpu_s"),
    ]
    return findings, [one, many]


def _backfill(url: str, portions: list[tuple[str, str, str]]) -> Run:
    """Fill an empty lake with one process per portion (symbols, first and last month); add up the times."""
    root = OUT / "work" / "starts"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    config = root / "pipeline.yaml"
    config.write_text(f"venue: sandbox\nsandbox_url: {url}\nstorage:\n  root: data\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CAPTURE_")}
    runs = []
    for symbols, first, last in portions:
        command = [
            str(_CAPTURE),
            "klines",
            "backfill",
            "--config",
            str(config),
            "--symbol",
            symbols,
            "--from",
            first,
            "--to",
            last,
        ]
        runs.append(run_program(command, environment))
    return Run(sum(run.wall_s for run in runs), sum(run.cpu_s for run in runs), 0, 0.0)
