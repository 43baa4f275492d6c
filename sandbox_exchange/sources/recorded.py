"""Recorded kline files in place of the synthetic market: archive files as they lie there, REST pages from the same bars."""

from __future__ import annotations

import re
import zipfile
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import polars as pl

from capture_pipeline.binance.periods import HOUR_US, Interval, Month
from capture_pipeline.binance.urls import ArchiveFile, Granularity, Market, TradesFile, parse_name
from capture_pipeline.errors import ConfigError
from capture_pipeline.parsing import PARSE_ERRORS
from sandbox_exchange.archive.corrupt_zip import first_entry
from sandbox_exchange.faults.rules import CHECKSUM
from sandbox_exchange.market.kline_text import SCHEMA, parse_csv
from sandbox_exchange.market.source import AnyFile, Content, KlineQuery
from sandbox_exchange.market.symbols import SymbolSpec

_FAILURES: tuple[type[Exception], ...] = (OSError, *PARSE_ERRORS)
_CACHED_MONTHS = 48
_FIRST_BYTES = 64
Series = tuple[Market, str, Interval]


@dataclass(frozen=True)
class _Lying:
    """A recorded file: where it lies and what it is."""

    path: Path
    file: ArchiveFile


class RecordedSource:
    """Klines and files of a directory."""

    def __init__(self, directory: Path, market: Market | None = None) -> None:
        """Find the files; their contents are read when they are asked for.

        Args:
            directory: Searched with all its folders; files are known by the archive's names.
            market: Market of files whose path does not state it; None tells it from the header row.

        Raises:
            ConfigError: There is no kline file.
        """
        self._files: dict[str, _Lying] = {}
        # A zip comes after a CSV of the same name, and so is the one that counts.
        for path in sorted(directory.rglob("*"), key=lambda path: (path.suffix == ".zip", str(path))):
            file = _recognised(path, directory, market)
            if file is not None:
                self._files[file.path] = _Lying(path, file)
        if not self._files:
            remedy = "files are named as the archive names them, for instance ETHUSDT-1h-2024-11.csv"
            raise ConfigError("holds no kline file", where=str(directory), remedy=remedy)
        self._series: defaultdict[Series, defaultdict[Month, list[_Lying]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for lying in sorted(
            self._files.values(),
            key=lambda lying: (lying.file.granularity is Granularity.DAILY, lying.file.name),
        ):
            file = lying.file
            self._series[file.market, file.symbol, file.interval][Month.of(file.bounds[0])].append(lying)
        self._frames: OrderedDict[tuple[Series, Month], pl.DataFrame] = OrderedDict()

    def published_by(self, monthly_delay_hours: float, daily_delay_hours: float) -> int:
        """A time shortly after the publication of the last file and of the month it lies in."""
        ends = [Month.of(lying.file.bounds[0]).end_us for lying in self._files.values()]
        return max(ends) + int((max(monthly_delay_hours, daily_delay_hours) + 1) * HOUR_US)

    def symbols(self, market: Market) -> list[SymbolSpec]:
        """The symbols of a market; tick and lot are not known, and stated as the smallest."""
        names = sorted({symbol for of, symbol, _ in self._series if of is market})
        return [
            SymbolSpec(symbol=name, tick_size=Decimal("0.00000001"), lot_size=Decimal(1)) for name in names
        ]

    def status(self, market: Market, symbol: SymbolSpec, now_us: int) -> str:
        """Return TRADING, as files contain no status."""
        del market, symbol, now_us
        return "TRADING"

    def klines(self, query: KlineQuery, now_us: int) -> pl.DataFrame:
        """The candles a request asks for that are over by then; of an unfinished one nothing is recorded."""
        series = query.market, query.symbol, query.interval
        months = sorted(self._series[series]) if series in self._series else []
        newest_first = query.start_us is None
        start, end = query.start_us or 0, now_us if query.end_us is None else query.end_us
        found: list[pl.DataFrame] = []
        for month in reversed(months) if newest_first else months:
            if month.end_us <= start or month.start_us > end or sum(map(len, found)) >= query.limit:
                continue
            is_asked = pl.col("open_us").is_between(start, end) & (pl.col("close_us") < now_us)
            found.append(self._month(series, month).filter(is_asked))
        if not found:
            return pl.DataFrame(schema=SCHEMA)
        frame = pl.concat(found[::-1] if newest_first else found)
        return frame.tail(query.limit) if newest_first else frame.head(query.limit)

    def intervals(self, market: Market, granularity: Granularity, symbol: str) -> list[Interval]:
        """The intervals of which files exist."""
        files = [lying.file for lying in self._files.values()]
        return sorted(
            {
                file.interval
                for file in files
                if (file.market, file.granularity, file.symbol) == (market, granularity, symbol)
            }
        )

    def files(
        self, market: Market, granularity: Granularity, symbol: str, interval: Interval, until_us: int
    ) -> list[ArchiveFile]:
        """The files whose period is over by `until_us`."""
        wanted = market, granularity, symbol, interval
        files = [lying.file for lying in self._files.values()]
        of_folder = [
            file for file in files if (file.market, file.granularity, file.symbol, file.interval) == wanted
        ]
        return [file for file in of_folder if file.bounds[1] <= until_us]

    def trades_files(
        self, market: Market, granularity: Granularity, symbol: str, until_us: int
    ) -> list[TradesFile]:
        """None: of trades nothing is recorded."""
        del market, granularity, symbol, until_us
        return []

    def content(self, file: AnyFile) -> Content | None:
        """What a file holds, None if it does not exist."""
        lying = self._files.get(file.path)
        if lying is None:
            return None
        body = lying.path.read_bytes()
        beside = lying.path.with_name(lying.path.name + CHECKSUM)
        if lying.path.suffix == ".zip":
            return Content(zip=body, checksum=beside.read_bytes() if beside.is_file() else None)
        return Content(csv=body)

    def _month(self, series: Series, month: Month) -> pl.DataFrame:
        """All bars of a month; where monthly and daily files overlap, the monthly one counts."""
        key = series, month
        known = self._frames.get(key)
        if known is None:
            parts = [parse_csv(_csv_of(lying.path)) for lying in self._series[series][month]]
            known = pl.concat(parts).unique("open_us", keep="first", maintain_order=True).sort("open_us")
            self._frames[key] = known
            while len(self._frames) > _CACHED_MONTHS:
                self._frames.popitem(last=False)
        return known


def _recognised(path: Path, directory: Path, market: Market | None) -> ArchiveFile | None:
    if path.suffix not in {".csv", ".zip"} or not path.is_file():
        return None
    stated = _market_of_path(path.relative_to(directory).as_posix())
    name = f"{path.stem}.zip"
    if parse_name(name, Market.SPOT) is None:
        return None
    return parse_name(name, stated or market or _market_of_header(path))


def _market_of_path(path: str) -> Market | None:
    if re.search(r"(^|/)futures/um/", path):
        return Market.UM
    return Market.SPOT if re.search(r"(^|/)spot/", path) else None


def _market_of_header(path: Path) -> Market:
    """Futures files have a header row, spot files have none."""
    try:
        with path.open("rb") as plain:
            head = plain.read(_FIRST_BYTES) if path.suffix == ".csv" else _csv_head(path)
    except _FAILURES:
        return Market.SPOT
    return Market.UM if head.removeprefix(b"\xef\xbb\xbf")[:1].isalpha() else Market.SPOT


def _csv_head(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive, archive.open(archive.infolist()[0]) as entry:
        return entry.read(_FIRST_BYTES)


def _csv_of(path: Path) -> bytes:
    if path.suffix == ".csv":
        return path.read_bytes()
    return first_entry(path.read_bytes(), str(path))
