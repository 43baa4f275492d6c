"""Layout of all files below the storage root. Only this module joins such paths.

Raw files never change. `…` is a part of the path as in the line above.

raw/spot/klines/1m/BTCUSDT/2024-12/
    archives.json  topups.json        manifests: files, times of download, verification
    archives/<name>.<sha>.zip         zips of the archive, as sent
    rest/<start>-<end>.<sha>.json     REST answers, as sent
raw/spot/symbols/BTCUSDT.json         first and last kline, trading status
raw/spot/trades/BTCUSDT/<name>.<sha>.zip
                                      daily trades for the proof of sessions, as sent
raw/spot/daily_klines/BTCUSDT/<name>.<sha>.zip
                                      daily klines for the proof of days without bars in the lake, as sent
quarantine/spot/klines/1m/BTCUSDT/2024-12/
                                      files with a wrong checksum or form, with the reason
quarantine/spot/trades/BTCUSDT/       the same for daily trades

lake/bars/market=spot/interval=1m/symbol=BTCUSDT/month=2024-12/bars.parquet
lake/bar_conflicts/…/conflicts.parquet
lake/bar_exclusions/…/exclusions.parquet
                                      rows of raw files that are not bars
lake/bar_gaps/…/gaps.parquet
lake/bar_windows/…/window.parquet
lake/golden_checkpoints/session=…/symbol=BTCUSDT/checkpoints.parquet
                                      order books of a session, every ten minutes
lake/golden_refills/session=…/refills.parquet
                                      lost trades of a session, from the exchange's daily files

reports/feasibility/                  results of benchmarks: <asset>.json (latest), runs/, go_no_go.*
reports/                              coverage.csv, coverage.html, reconciliations, proofs of sessions
state/                                origin.json, limits of the exchange (limits-<host>.json), locks
catalog.duckdb                        views over the lake
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from capture_pipeline.binance.periods import Interval, Month
from capture_pipeline.binance.symbols import validate_symbol
from capture_pipeline.binance.urls import Market
from capture_pipeline.errors import CaptureError, LakeError

T = TypeVar("T")
_O_PATH = getattr(os, "O_PATH", os.O_RDONLY)
"""Opens only the name of a file; exists on Linux only."""


@dataclass(frozen=True)
class Partition:
    """One month of one symbol, in one market and interval.

    Attributes:
        market: Spot or USD-M futures.
        interval: Length of the klines.
        symbol: For instance BTCUSDT.
        month: Month in UTC.
    """

    market: Market
    interval: Interval
    symbol: str
    month: Month

    def __str__(self) -> str:
        """Return for instance `BTCUSDT 2024-12`."""
        return f"{self.symbol} {self.month}"

    @property
    def expected(self) -> int:
        """Count of klines in the whole month."""
        return self.interval.count_bars(self.month.start_us, self.month.end_us)


class PartitionOutcome(NamedTuple, Generic[T]):
    """A partition, and the result of some work on it or the error that ended the work."""

    partition: Partition
    outcome: T | CaptureError


@dataclass(frozen=True)
class Lake:
    """The storage root and the paths below it."""

    root: Path

    def raw(self, part: Partition) -> Path:
        """Return the folder of the raw files of one partition."""
        return self._inside(
            "raw", part.market, "klines", part.interval, validate_symbol(part.symbol), str(part.month)
        )

    def archives_manifest(self, part: Partition) -> Path:
        """Return the path of the manifest of archive files."""
        return self.raw(part) / "archives.json"

    def topups_manifest(self, part: Partition) -> Path:
        """Return the path of the manifest of REST answers."""
        return self.raw(part) / "topups.json"

    def archive_file(self, part: Partition, name: str, sha256: str) -> Path:
        """Return the path of a raw zip; the digest in its name keeps every published version."""
        return self.raw(part) / "archives" / f"{name.removesuffix('.zip')}.{sha256[:12]}.zip"

    def rest_file(self, part: Partition, start_us: int, end_us: int, sha256: str) -> Path:
        """Return the path of a raw REST answer."""
        return self.raw(part) / "rest" / f"{start_us // 1000}-{end_us // 1000}.{sha256[:12]}.json"

    def quarantine(self, part: Partition) -> Path:
        """Return the folder of files that failed their verification."""
        return self._inside(
            "quarantine", part.market, "klines", part.interval, validate_symbol(part.symbol), str(part.month)
        )

    def published_file(self, market: Market, kind: str, symbol: str, name: str, sha256: str) -> Path:
        """Return the path of a version of a zip for proofs: `trades`, `aggTrades` or `daily_klines`."""
        return self._published("raw", market, kind, symbol) / f"{name.removesuffix('.zip')}.{sha256[:12]}.zip"

    def published_partial(self, market: Market, kind: str, symbol: str, name: str) -> Path:
        """Return the path of a zip for proofs during its download."""
        return self._published("raw", market, kind, symbol) / f".{name.removesuffix('.zip')}.partial"

    def published_quarantine(self, market: Market, kind: str, symbol: str, name: str, sha256: str) -> Path:
        """Return the path of a zip for proofs that failed its verification."""
        return (
            self._published("quarantine", market, kind, symbol)
            / f"{name.removesuffix('.zip')}.{sha256[:12]}.zip"
        )

    def published_lock(self, market: Market, kind: str, symbol: str) -> Path:
        """Return the path of the lock for downloads of zips for proofs of a symbol."""
        return self._inside("state", "locks", f"{market}-{kind}-{validate_symbol(symbol)}.lock")

    def trading_period_file(self, market: Market, symbol: str, interval: Interval) -> Path:
        """Return the path of the first and last kline of a symbol in one interval."""
        # Minutes have no suffix: old versions requested only minutes and wrote this name.
        suffix = "" if interval is Interval.M1 else f"-{interval}"
        return self._inside("raw", market, "symbols", f"{validate_symbol(symbol)}{suffix}.json")

    def bars(self, part: Partition) -> Path:
        """Return the path of the merged bars of one partition."""
        return self._table("bars", part) / "bars.parquet"

    def conflicts(self, part: Partition) -> Path:
        """Return the path of the rows on which two sources disagree."""
        return self._table("bar_conflicts", part) / "conflicts.parquet"

    def exclusions(self, part: Partition) -> Path:
        """Return the path of the rows of raw files that are not bars."""
        return self._table("bar_exclusions", part) / "exclusions.parquet"

    def gaps(self, part: Partition) -> Path:
        """Return the path of the gap ledger of one partition."""
        return self._table("bar_gaps", part) / "gaps.parquet"

    def window(self, part: Partition) -> Path:
        """Return the path of the expectations of one partition (`bar_windows`)."""
        return self._table("bar_windows", part) / "window.parquet"

    def tables(self) -> Path:
        """Return the root folder of all tables."""
        return self._inside("lake")

    def table(self, name: str) -> Path:
        """Return the root folder of a table, which may not exist."""
        return self._inside("lake", name)

    def table_glob(self, name: str) -> str:
        """Return the glob pattern of all files of a table, for DuckDB."""
        return str(self.table(name) / "**" / "*.parquet")

    def reports(self) -> Path:
        """Return the folder of reports."""
        return self._inside("reports")

    def reconciliation(self, partition: Partition) -> Path:
        """Return the path of the comparison of the sources of a partition (JSON)."""
        name = f"{partition.market}-{partition.interval}-{partition.symbol}-{partition.month}.json"
        return self._inside("reports", "reconciliation", name)

    def proof(self, session: str) -> Path:
        """Return the path of the proof of a session."""
        return self._inside("reports", "proofs", f"{session}.json")

    def refills(self, session: str) -> Path:
        """Return the path of the lost trades of a session that files of the exchange contain."""
        return self._inside("lake", "golden_refills", f"session={session}", "refills.parquet")

    def state(self, name: str) -> Path:
        """Return the path of a state file, which is not data."""
        return self._inside("state", name)

    def lock(self, part: Partition) -> Path:
        """Return the path of the lock for the writer of the raw files of a partition."""
        return self._inside(
            "state",
            "locks",
            f"{part.market}-{part.interval}-{validate_symbol(part.symbol)}-{part.month}.lock",
        )

    def origin(self) -> Path:
        """Return the path of the record of the exchange from which all data come."""
        return self.state("origin.json")

    def origin_lock(self) -> Path:
        """Return the path of the lock for the writer of the record of the exchange."""
        return self._inside("state", "locks", "origin.lock")

    def catalog(self) -> Path:
        """Return the path of the DuckDB catalog."""
        return self._inside("catalog.duckdb")

    def relative(self, path: Path) -> str:
        """Return `path` as in manifests: relative to the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def resolve(self, recorded: str) -> Path:
        """Return the path of a file that a manifest lists.

        Raises:
            LakeError: The path leads out of the root.
        """
        return self._inside(*recorded.split("/"))

    def _published(self, root: str, market: Market, kind: str, symbol: str) -> Path:
        return self._inside(root, market, kind, validate_symbol(symbol))

    def _table(self, name: str, part: Partition) -> Path:
        keys = (
            f"market={part.market}",
            f"interval={part.interval}",
            f"symbol={validate_symbol(part.symbol)}",
            f"month={part.month}",
        )
        return self._inside("lake", name, *keys)

    @cached_property
    def _resolved_root(self) -> str:
        """Absolute path of the root without links, with a slash at the end."""
        return f"{os.path.realpath(self.root).rstrip('/')}/"

    def _inside(self, *parts: str) -> Path:
        path = self.root.joinpath(*parts)
        if not f"{_real_path(path)}/".startswith(self._resolved_root):
            raise LakeError(
                "is outside storage.root",
                where=str(path),
                remedy="remove the symbolic link, or correct the name",
            )
        return path


def _real_path(path: Path) -> str:
    """Return the absolute path without links.

    Sensors build a path for each of many thousand partitions. The kernel resolves an existing path in 11
    microseconds, `os.path.realpath` needs 90, because it reads the state of each folder.
    """
    try:
        descriptor = os.open(path, _O_PATH | os.O_CLOEXEC)
    except OSError:
        return os.path.realpath(path)
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - a text is needed
    except OSError:
        return os.path.realpath(path)
    finally:
        os.close(descriptor)
