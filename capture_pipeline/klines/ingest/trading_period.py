"""First and last kline of a symbol, from REST and the archive's listings, stored in the lake.

Bars before the first kline and after the last kline are not missing.
"""

from __future__ import annotations

from pathlib import Path

from capture_pipeline.binance.archive.klines.parser import parse_rest
from capture_pipeline.binance.periods import DAY_US, Interval, TimeRange
from capture_pipeline.binance.rest.client import INVALID_SYMBOL_STATUS, UNKNOWN_SYMBOL
from capture_pipeline.binance.urls import Granularity, archive_folder, parse_name
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import RequestRefusedError
from capture_pipeline.klines.quality.ranges import Ranges
from capture_pipeline.lake.files import publish_model, read_model
from capture_pipeline.lake.manifests import ArchivesManifest, TradingPeriod
from capture_pipeline.lake.paths import Partition

_TRADING = {"TRADING"}
_UNKNOWN = "UNKNOWN"


def fetch_trading_period(deployment: Deployment, symbol: str, now_us: int) -> TradingPeriod:
    """Return the trading period of a symbol; request it again after a day, because symbols are delisted.

    Args:
        symbol: The symbol.
        now_us: The present time.

    Returns:
        The period by klines of the configured interval. Its status is UNKNOWN if REST does not know the
        symbol. If REST has no kline, the period is that of the listed archive files. If it has no first
        kline, neither REST nor the archive knows the symbol.
    """
    path = _period_path(deployment, symbol)
    stored = read_model(path, TradingPeriod)
    if stored and abs(now_us - stored.checked_at_us) < DAY_US:
        return stored
    trading_period = _request_trading_period(
        deployment, symbol, now_us, load_trading_period(deployment, symbol)
    )
    publish_model(path, trading_period)
    return trading_period


def load_trading_period(deployment: Deployment, symbol: str) -> TradingPeriod | None:
    """Load the stored trading period of a symbol, without a request.

    If the period was never requested for the configured interval, the period by klines of one minute is
    returned.
    """
    stored = read_model(_period_path(deployment, symbol), TradingPeriod)
    return stored or read_model(
        deployment.lake.trading_period_file(deployment.settings.market, symbol, Interval.M1), TradingPeriod
    )


def find_trading_range(
    trading_period: TradingPeriod | None, partition: Partition, archives: ArchivesManifest
) -> TimeRange:
    """Return the part of the month in which the symbol traded; empty if it did not trade.

    The archive files extend the period of REST, because REST does not know delisted symbols.
    """
    start, end = partition.month.start_us, partition.month.end_us
    step = partition.interval.us
    if trading_period and trading_period.first_open_us is not None:
        start = max(start, trading_period.first_open_us)
        if trading_period.last_open_us is not None:
            end = min(end, partition.interval.floor(trading_period.last_open_us) + step)
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
    return TimeRange(start, max(start, end))


def _period_path(deployment: Deployment, symbol: str) -> Path:
    return deployment.lake.trading_period_file(
        deployment.settings.market, symbol, deployment.settings.interval
    )


def _request_trading_period(
    deployment: Deployment, symbol: str, now_us: int, known: TradingPeriod | None
) -> TradingPeriod:
    interval = deployment.settings.interval
    status = deployment.rest.symbol_status(symbol)
    try:
        first = parse_rest(
            deployment.rest.edge_klines(symbol, interval, first=True), f"first kline of {symbol}"
        )
        last = parse_rest(
            deployment.rest.edge_klines(symbol, interval, first=False), f"newest kline of {symbol}"
        )
    except RequestRefusedError as error:
        if error.code not in UNKNOWN_SYMBOL:
            raise
        is_listed = status is not None and error.code == INVALID_SYMBOL_STATUS
        trading_period = _build_listed_period(
            deployment, symbol, now_us, known, status if is_listed and status else _UNKNOWN
        )
        return trading_period.model_copy(update={"is_archive_only": is_listed})
    if not first.height:
        return _build_listed_period(deployment, symbol, now_us, known, status or _UNKNOWN)
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


def _build_listed_period(
    deployment: Deployment, symbol: str, now_us: int, known: TradingPeriod | None, status: str
) -> TradingPeriod:
    """Build the trading period of a symbol without klines at REST, from the stored one and the listed files.

    The period of a symbol that trades has no end: the symbol may be minutes old, and its first files come
    tomorrow.
    """
    listed = _find_listed_range(deployment, symbol)
    first = known.first_open_us if known else None
    if first is None and listed:
        first = listed[0]
    last = listed[1] - deployment.settings.interval.us if listed and status not in _TRADING else None
    ends = [end for end in (known.last_open_us if known else None, last) if end is not None]
    return TradingPeriod(
        first_open_us=first, last_open_us=max(ends, default=None), status=status, checked_at_us=now_us
    )


def _find_listed_range(deployment: Deployment, symbol: str) -> TimeRange | None:
    """Return the range from the first to the last listed file; the edges of daily files are more exact."""
    months, days = (
        _list_periods(deployment, symbol, granularity)
        for granularity in (Granularity.MONTHLY, Granularity.DAILY)
    )
    if not months or not days:
        either = months or days
        return TimeRange(either[0].start_us, either[-1].end_us) if either else None
    start = (days if days[0].start_us < months[0].end_us else months)[0].start_us
    end = (days if days[-1].end_us > months[-1].start_us else months)[-1].end_us
    return TimeRange(start, end)


def _list_periods(deployment: Deployment, symbol: str, granularity: Granularity) -> Ranges:
    """List the periods of the files of one granularity, in order."""
    market = deployment.settings.market
    entries = deployment.archive.listing(
        archive_folder(market, granularity, symbol, deployment.settings.interval)
    )
    files = (parse_name(entry.key.rpartition("/")[2], market) for entry in entries)
    return sorted(file.bounds for file in files if file)
