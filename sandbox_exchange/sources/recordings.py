"""Source of recorded kline files: archive files are unchanged, and REST pages contain the same bars."""

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
from sandbox_exchange.archive.corrupt_zip import inflate_first_entry
from sandbox_exchange.config.symbols import SymbolSpec
from sandbox_exchange.faults.kinds import CHECKSUM
from sandbox_exchange.market.kline_text import SCHEMA, parse_csv
from sandbox_exchange.market.source import AnyFile, FileContent, KlineQuery

_FAILURES: tuple[type[Exception], ...] = (OSError, *PARSE_ERRORS)
_MAX_CACHED_MONTHS = 48
_FIRST_BYTES = 64
_SeriesKey = tuple[Market, str, Interval]


@dataclass(frozen=True)
class _RecordedFile:
    """Path and identity of a recorded file."""

    path: Path
    file: ArchiveFile


class RecordedSource:
    """Klines and archive files of a directory."""

    def __init__(self, directory: Path, market: Market | None = None) -> None:
        """Search the directory; the content of a file is read on demand.

        Args:
            directory: Directory that is searched recursively for files with the names of the archive.
            market: Market of files whose path does not contain it; None to derive it from the header row.

        Raises:
            ConfigError: The directory contains no kline file.
        """
        self._files: dict[str, _RecordedFile] = {}
        # A zip comes after the CSV of the same name and replaces it.
        for path in sorted(directory.rglob("*"), key=lambda path: (path.suffix == ".zip", str(path))):
            file = _identify_file(path, directory, market)
            if file is not None:
                self._files[file.path] = _RecordedFile(path, file)
        if not self._files:
            remedy = "name the files as in the archive, for example ETHUSDT-1h-2024-11.csv"
            raise ConfigError("contains no kline file", where=str(directory), remedy=remedy)
        self._series: defaultdict[_SeriesKey, defaultdict[Month, list[_RecordedFile]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for recorded in sorted(
            self._files.values(),
            key=lambda recorded: (recorded.file.granularity is Granularity.DAILY, recorded.file.name),
        ):
            file = recorded.file
            self._series[file.market, file.symbol, file.interval][Month.of(file.bounds.start_us)].append(
                recorded
            )
        self._frames: OrderedDict[tuple[_SeriesKey, Month], pl.DataFrame] = OrderedDict()

    def all_published_us(self, monthly_delay_hours: float, daily_delay_hours: float) -> int:
        """Return a time by which the last file and the monthly file of its period are published."""
        ends = [Month.of(recorded.file.bounds.start_us).end_us for recorded in self._files.values()]
        return max(ends) + int((max(monthly_delay_hours, daily_delay_hours) + 1) * HOUR_US)

    def symbols(self, market: Market) -> list[SymbolSpec]:
        """Return the symbols of a market; tick and lot are unknown and have their minimum values."""
        names = sorted({symbol for of, symbol, _ in self._series if of is market})
        return [
            SymbolSpec(symbol=name, tick_size=Decimal("0.00000001"), lot_size=Decimal(1)) for name in names
        ]

    def status(self, market: Market, symbol: SymbolSpec, now_us: int) -> str:
        """Return TRADING, because files contain no status."""
        del market, symbol, now_us
        return "TRADING"

    def klines(self, query: KlineQuery, now_us: int) -> pl.DataFrame:
        """Return the finished klines of a query; unfinished klines are not recorded."""
        series = query.market, query.symbol, query.interval
        months = sorted(self._series[series]) if series in self._series else []
        newest_first = query.start_us is None
        start, end = query.start_us or 0, now_us if query.end_us is None else query.end_us
        frames: list[pl.DataFrame] = []
        for month in reversed(months) if newest_first else months:
            if month.end_us <= start or month.start_us > end or sum(map(len, frames)) >= query.limit:
                continue
            is_requested = pl.col("open_us").is_between(start, end) & (pl.col("close_us") < now_us)
            frames.append(self._month(series, month).filter(is_requested))
        if not frames:
            return pl.DataFrame(schema=SCHEMA)
        frame = pl.concat(frames[::-1] if newest_first else frames)
        return frame.tail(query.limit) if newest_first else frame.head(query.limit)

    def intervals(self, market: Market, granularity: Granularity, symbol: str) -> list[Interval]:
        """Return the intervals with files."""
        files = [recorded.file for recorded in self._files.values()]
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
        """Return the files whose period ends by `until_us`."""
        wanted = market, granularity, symbol, interval
        files = [recorded.file for recorded in self._files.values()]
        in_folder = [
            file for file in files if (file.market, file.granularity, file.symbol, file.interval) == wanted
        ]
        return [file for file in in_folder if file.bounds.end_us <= until_us]

    def trades_files(
        self, market: Market, granularity: Granularity, symbol: str, until_us: int
    ) -> list[TradesFile]:
        """Return no files, because trades are not recorded."""
        del market, granularity, symbol, until_us
        return []

    def content(self, file: AnyFile) -> FileContent | None:
        """Return the content of a file; None if the file does not exist."""
        recorded = self._files.get(file.path)
        if recorded is None:
            return None
        body = recorded.path.read_bytes()
        checksum = recorded.path.with_name(recorded.path.name + CHECKSUM)
        if recorded.path.suffix == ".zip":
            return FileContent(zip=body, checksum=checksum.read_bytes() if checksum.is_file() else None)
        return FileContent(csv=body)

    def _month(self, series: _SeriesKey, month: Month) -> pl.DataFrame:
        """Return all bars of a month; rows of monthly files take precedence over those of daily files."""
        key = series, month
        frame = self._frames.get(key)
        if frame is None:
            parts = [parse_csv(_read_csv(recorded.path)) for recorded in self._series[series][month]]
            frame = pl.concat(parts).unique("open_us", keep="first", maintain_order=True).sort("open_us")
            self._frames[key] = frame
            while len(self._frames) > _MAX_CACHED_MONTHS:
                self._frames.popitem(last=False)
        return frame


def _identify_file(path: Path, directory: Path, market: Market | None) -> ArchiveFile | None:
    if path.suffix not in {".csv", ".zip"} or not path.is_file():
        return None
    path_market = _market_of_path(path.relative_to(directory).as_posix())
    name = f"{path.stem}.zip"
    if parse_name(name, Market.SPOT) is None:
        return None
    return parse_name(name, path_market or market or _market_of_header(path))


def _market_of_path(path: str) -> Market | None:
    if re.search(r"(^|/)futures/um/", path):
        return Market.UM
    return Market.SPOT if re.search(r"(^|/)spot/", path) else None


def _market_of_header(path: Path) -> Market:
    """Derive the market from the header row: futures files have one, spot files do not."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_FIRST_BYTES) if path.suffix == ".csv" else _read_csv_head(path)
    except _FAILURES:
        return Market.SPOT
    return Market.UM if head.removeprefix(b"\xef\xbb\xbf")[:1].isalpha() else Market.SPOT


def _read_csv_head(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive, archive.open(archive.infolist()[0]) as entry:
        return entry.read(_FIRST_BYTES)


def _read_csv(path: Path) -> bytes:
    if path.suffix == ".csv":
        return path.read_bytes()
    return inflate_first_entry(path.read_bytes(), str(path))
