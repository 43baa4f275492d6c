"""When a symbol began and ended to trade, asked of REST and remembered: what lies outside is no gap."""

from __future__ import annotations

from pathlib import Path

from capture_pipeline.binance.archive.klines import parse_rest
from capture_pipeline.binance.periods import DAY_US, Interval
from capture_pipeline.binance.rest.client import INVALID_SYMBOL_STATUS, UNKNOWN_SYMBOL
from capture_pipeline.binance.urls import Granularity, folder, parse_name
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import RequestRefusedError
from capture_pipeline.klines.quality.ranges import Range, Ranges
from capture_pipeline.lake.files import publish_model, read_model
from capture_pipeline.lake.manifests import ArchivesManifest, TradingPeriod
from capture_pipeline.lake.paths import Partition

_TRADING = {"TRADING"}
_UNKNOWN = "UNKNOWN"


def fetch_trading_period(workspace: Workspace, symbol: str, now_us: int) -> TradingPeriod:
    """The life of a symbol; asked again once a day, since symbols end.

    Args:
        workspace: The deployment.
        symbol: Which one.
        now_us: The present.

    Returns:
        Its life by candles of the configured interval; with status UNKNOWN where REST does not know the symbol (any more). Where REST has
        no candle of it, its life is that of the files that the archive lists; without a first candle neither of them knows the symbol.
    """
    path = _path(workspace, symbol)
    known = read_model(path, TradingPeriod)
    if known and abs(now_us - known.checked_at_us) < DAY_US:
        return known
    life = _request_trading_period(workspace, symbol, now_us, load_trading_period(workspace, symbol))
    publish_model(path, life)
    return life


def load_trading_period(workspace: Workspace, symbol: str) -> TradingPeriod | None:
    """The life of a symbol as last asked, without asking; by minutes where it was not asked in the configured interval yet."""
    known = read_model(_path(workspace, symbol), TradingPeriod)
    return known or read_model(
        workspace.lake.trading_period_file(workspace.settings.market, symbol, Interval.M1), TradingPeriod
    )


def trading_range(life: TradingPeriod | None, partition: Partition, archives: ArchivesManifest) -> Range:
    """The part of the month in which the symbol traded; empty where it did not.

    What the archive holds beats what REST says: REST forgets symbols that were removed.
    """
    start, end = partition.month.start_us, partition.month.end_us
    step = partition.interval.us
    if life and life.first_open_us is not None:
        start = max(start, life.first_open_us)
        if life.last_open_us is not None:
            end = min(end, partition.interval.floor(life.last_open_us) + step)
    usable = archives.usable()
    if usable:
        start = min([start, *(record.first_open_us for record in usable if record.first_open_us is not None)])
        end = max(
            [
                end,
                *(
                    partition.interval.floor(record.last_open_us) + step
                    for record in usable
                    if record.last_open_us is not None
                ),
            ]
        )
    start = partition.interval.floor(start)
    return (start, max(start, end))


def _path(workspace: Workspace, symbol: str) -> Path:
    return workspace.lake.trading_period_file(workspace.settings.market, symbol, workspace.settings.interval)


def _request_trading_period(
    workspace: Workspace, symbol: str, now_us: int, known: TradingPeriod | None
) -> TradingPeriod:
    interval = workspace.settings.interval
    status = workspace.rest.symbol_status(symbol)
    try:
        first = parse_rest(
            workspace.rest.edge_klines(symbol, interval, first=True), f"first candle of {symbol}"
        )
        last = parse_rest(
            workspace.rest.edge_klines(symbol, interval, first=False), f"newest candle of {symbol}"
        )
    except RequestRefusedError as error:
        if error.code not in UNKNOWN_SYMBOL:
            raise
        is_listed = status is not None and error.code == INVALID_SYMBOL_STATUS
        life = _listed_trading_period(
            workspace, symbol, now_us, known, status if is_listed and status else _UNKNOWN
        )
        return life.model_copy(update={"is_archive_only": is_listed})
    if not first.height:
        return _listed_trading_period(workspace, symbol, now_us, known, status or _UNKNOWN)
    ended = (
        status not in _TRADING
        and last.height
        and int(last["open_time_us"][-1]) + interval.us <= now_us - DAY_US
    )
    return TradingPeriod(
        first_open_us=int(first["open_time_us"][0]),
        last_open_us=int(last["open_time_us"][-1]) if ended else None,
        status=status or _UNKNOWN,
        checked_at_us=now_us,
    )


def _listed_trading_period(
    workspace: Workspace, symbol: str, now_us: int, known: TradingPeriod | None, status: str
) -> TradingPeriod:
    """The life of a symbol of which REST has no candle: what was known before, and what the archive lists.

    While it trades it has no end: it may have been listed minutes ago, and its first files come tomorrow.
    """
    listed = _listed_range(workspace, symbol)
    first = known.first_open_us if known else None
    if first is None and listed:
        first = listed[0]
    last = listed[1] - workspace.settings.interval.us if listed and status not in _TRADING else None
    ends = [end for end in (known.last_open_us if known else None, last) if end is not None]
    return TradingPeriod(
        first_open_us=first, last_open_us=max(ends, default=None), status=status, checked_at_us=now_us
    )


def _listed_range(workspace: Workspace, symbol: str) -> Range | None:
    """From the first to the last period of which the archive has a file; days tell an edge better than months."""
    months, days = (
        _listed_periods(workspace, symbol, granularity)
        for granularity in (Granularity.MONTHLY, Granularity.DAILY)
    )
    if not months or not days:
        either = months or days
        return (either[0][0], either[-1][1]) if either else None
    start = days[0][0] if days[0][0] < months[0][1] else months[0][0]
    end = days[-1][1] if days[-1][1] > months[-1][0] else months[-1][1]
    return (start, end)


def _listed_periods(workspace: Workspace, symbol: str, granularity: Granularity) -> Ranges:
    """The periods of the listed files of one kind, in order."""
    market = workspace.settings.market
    entries = workspace.archive.listing(folder(market, granularity, symbol, workspace.settings.interval))
    files = (parse_name(entry.key.rpartition("/")[2], market) for entry in entries)
    return sorted(file.bounds for file in files if file)
