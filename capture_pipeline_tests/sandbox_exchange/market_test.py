"""Tests of the synthetic market: trades, klines and archive files agree."""

from __future__ import annotations

import io
import zipfile
from datetime import date

import numpy as np
import pytest

from capture_pipeline.binance.periods import DAY_US, HOUR_US, MINUTE_US, Interval, Month, parse_time
from capture_pipeline.binance.urls import ArchiveFile, Market
from sandbox_exchange.config.spans import Outage
from sandbox_exchange.market.bars import build_bars, fill_empty_bars
from sandbox_exchange.market.market import SyntheticMarket
from sandbox_exchange.market.source import KlineQuery
from sandbox_exchange.server.server import Sandbox, SandboxConfig

DAY = parse_time("2024-12-31")
NEVER = 1 << 62
OUTAGE = Outage(start=parse_time("2024-12-31T10:00"), end=parse_time("2024-12-31T11:30"))


def market_of(**settings: object) -> SyntheticMarket:
    return SyntheticMarket(SandboxConfig.model_validate(settings))


def csv_of(box: Sandbox, file: ArchiveFile) -> list[list[str]]:
    published = box.archive.read_zip(file.path)
    if published is None:
        pytest.fail(f"{file.path} is not published")
    with zipfile.ZipFile(io.BytesIO(published.body)) as archive:
        return [line.split(",") for line in archive.read(f"{file.stem}.csv").decode().splitlines()]


def test_ids_are_contiguous_and_times_in_order_across_midnight() -> None:
    """Trades of several days have contiguous ids and ascending times."""
    trades = market_of().trades(Market.SPOT, "BTCUSDT", DAY, DAY + 3 * DAY_US)
    assert (np.diff(trades.ids) == 1).all()
    assert (np.diff(trades.time_us) >= 0).all()
    assert len(trades) == 3 * 11520


def test_price_is_continuous_across_midnight() -> None:
    """The price moves by less than 1 % between two trades, also at midnight."""
    price = market_of().trades(Market.SPOT, "ETHUSDT", DAY, DAY + 2 * DAY_US).price
    assert (np.abs(np.diff(price)) < price[:-1] / 100).all()


@pytest.mark.parametrize(
    "interval", [Interval.S1, Interval.M1, Interval.M15, Interval.H1, Interval.H4, Interval.D1]
)
def test_klines_are_those_of_the_trades(interval: Interval) -> None:
    """Each candle contains exactly the values of its trades."""
    market, end = market_of(), DAY + DAY_US
    bars = market.klines(Market.SPOT, "SOLUSDT", interval, DAY, end, NEVER)
    trades = market.trades(Market.SPOT, "SOLUSDT", DAY, end)
    assert bars.count.sum() == len(trades)
    assert bars.volume.sum() == trades.quantity.sum()
    busiest = int(bars.open_us[np.argmax(bars.count)])
    bar, inside = (
        bars.select_period(busiest, busiest + 1),
        trades.select_period(busiest, busiest + interval.us),
    )
    expected = (
        inside.price[0],
        inside.price.max(),
        inside.price.min(),
        inside.price[-1],
        (inside.price * inside.quantity).sum(),
    )
    assert (bar.open[0], bar.high[0], bar.low[0], bar.close[0], bar.quote[0]) == expected


def test_cached_months_and_single_days_agree() -> None:
    """A candle is the same if its month or only its day is computed."""
    whole = market_of().klines(Market.SPOT, "XRPUSDT", Interval.M5, DAY - 30 * DAY_US, DAY + DAY_US, NEVER)
    part = market_of().klines(Market.SPOT, "XRPUSDT", Interval.M5, DAY, DAY + DAY_US, NEVER)
    assert np.array_equal(whole.select_period(DAY, DAY + DAY_US).close, part.close)
    assert np.array_equal(whole.select_period(DAY, DAY + DAY_US).high, part.high)


def test_minute_without_trades_repeats_the_previous_close() -> None:
    """A minute without trades has volume 0 and the previous close."""
    bars = market_of(extra_symbols=1).klines(Market.SPOT, "SYN00USDT", Interval.M1, DAY, DAY + DAY_US, NEVER)
    assert len(bars) == 1440
    empty = np.flatnonzero(bars.count == 0)
    assert len(empty) > 100
    for column in (bars.open, bars.high, bars.low, bars.close):
        assert np.array_equal(column[empty[empty > 0]], bars.close[empty[empty > 0] - 1])
    before = market_of(extra_symbols=1).trades(Market.SPOT, "SYN00USDT", DAY - DAY_US, DAY)
    own = build_bars(
        market_of(extra_symbols=1).trades(Market.SPOT, "SYN00USDT", DAY, DAY + DAY_US), MINUTE_US
    )
    assert np.array_equal(fill_empty_bars(own, bars.open_us, int(before.price[-1])).open, bars.open)


def test_outage_has_no_trade_and_no_candle() -> None:
    """Candles that are completely inside an outage do not exist; ids continue."""
    market = market_of(outages=[OUTAGE])
    assert len(market.trades(Market.SPOT, "BTCUSDT", OUTAGE.start, OUTAGE.end)) == 0
    minutes = market.klines(Market.SPOT, "BTCUSDT", Interval.M1, DAY, DAY + DAY_US, NEVER)
    assert len(minutes) == 1440 - 90
    assert not len(minutes.select_period(OUTAGE.start, OUTAGE.end))
    hours = market.klines(Market.SPOT, "BTCUSDT", Interval.H1, DAY, DAY + DAY_US, NEVER)
    assert len(hours) == 23  # 10:00 does not exist, 11:00 has half an hour
    assert (np.diff(market.trades(Market.SPOT, "BTCUSDT", DAY, DAY + 2 * DAY_US).ids) == 1).all()


def test_outage_of_whole_days_keeps_ids_contiguous() -> None:
    """Days without trades use no ids."""
    market = market_of(
        outages=[{"start": "2024-12-31T20:00", "end": "2025-01-03T04:00", "symbols": ["BTCUSDT"]}]
    )
    trades = market.trades(Market.SPOT, "BTCUSDT", DAY, DAY + 5 * DAY_US)
    assert (np.diff(trades.ids) == 1).all()
    assert len(trades) == 3 * 11520
    assert len(market.trades(Market.SPOT, "ETHUSDT", DAY + DAY_US, DAY + 2 * DAY_US)) == 8640
    assert (
        market.trade_series(Market.SPOT, "BTCUSDT").day_of(int(trades.ids[-1]))
        == (DAY + 4 * DAY_US) // DAY_US
    )


def test_listing_and_delisting_bound_a_symbol() -> None:
    """The first candle is in the minute of the listing, and no candle opens after the delisting."""
    spec = {"symbol": "NEWUSDT", "listed": "2024-06-05T08:30", "delisted": "2024-06-20T12:00"}
    market = market_of(symbols=[spec])
    bars = market.klines(Market.SPOT, "NEWUSDT", Interval.M1, 0, parse_time("2024-07-01"), NEVER)
    assert int(bars.open_us[0]) == parse_time("2024-06-05T08:30")
    assert int(bars.open_us[-1]) == parse_time("2024-06-20T11:59")
    assert bars.count[0] > 0


def test_same_seed_same_bytes_and_other_seed_other_bytes() -> None:
    """Two sandboxes with the same seed serve identical zips; another seed gives other zips."""
    file = ArchiveFile(Market.SPOT, "BNBUSDT", Interval.H1, Month(2024, 5))
    bodies = [Sandbox(SandboxConfig(seed=seed)).archive.read_zip(file.path) for seed in (3, 3, 4)]
    digests = [body.sha256 for body in bodies if body]
    assert digests[0] == digests[1] != digests[2]


def test_unfinished_candle_holds_only_trades_so_far() -> None:
    """The last candle ends with the last trade before the present time."""
    market, now = market_of(), DAY + 10 * HOUR_US + 30_500_000
    bars = market.klines(Market.SPOT, "BTCUSDT", Interval.H1, DAY, DAY + DAY_US, now)
    inside = market.trades(Market.SPOT, "BTCUSDT", DAY + 10 * HOUR_US, now + 1)
    assert len(bars) == 11
    assert (bars.count[-1], bars.close[-1]) == (len(inside), inside.price[-1])


@pytest.mark.parametrize(("month", "factor"), [("2024-12", 1000), ("2025-01", 1)])
def test_spot_files_change_to_microseconds_in_2025(month: str, factor: int) -> None:
    """Spot files have milliseconds before 2025 and microseconds from then on; futures milliseconds."""
    box = Sandbox(SandboxConfig())
    file = ArchiveFile(Market.SPOT, "ADAUSDT", Interval.H1, Month.parse(month))
    rows = csv_of(box, file)
    assert int(rows[0][0]) * factor == file.bounds[0]
    assert (
        (int(rows[0][6]) + 1) * factor == file.bounds[0] + HOUR_US
        if factor == 1000
        else int(rows[0][6]) == file.bounds[0] + HOUR_US - 1
    )
    futures = ArchiveFile(Market.UM, "ADAUSDT", Interval.H1, Month.parse(month))
    head, first, *_ = csv_of(box, futures)
    assert head[0] == "open_time"
    assert int(first[0]) * 1000 == futures.bounds[0]


@pytest.mark.parametrize("market", list(Market))
def test_archive_rows_are_rest_rows(market: Market) -> None:
    """Daily file, monthly file and REST contain the same values."""
    box = Sandbox(SandboxConfig())
    daily = ArchiveFile(market, "BTCUSDT", Interval.M15, date(2024, 11, 5))
    monthly = ArchiveFile(market, "BTCUSDT", Interval.M15, Month(2024, 11))
    start, end = daily.bounds
    frame = box.source.klines(KlineQuery(market, "BTCUSDT", Interval.M15, start, end - 1, 1000), NEVER)
    rest = [[str(value) for value in row[1:6]] for row in frame.iter_rows()]
    rows = [row for row in csv_of(box, daily) if row[0].isdigit()]
    assert [row[1:6] for row in rows] == rest
    assert rows == [
        row for row in csv_of(box, monthly) if row[0].isdigit() and start <= int(row[0]) * 1000 < end
    ]


def test_omissions_and_differences_are_in_archive_files_only() -> None:
    """Omissions and differences apply to archive files; REST has all correct rows."""
    hole = {"symbol": "BTCUSDT", "start": "2024-11-05T03:00", "end": "2024-11-05T05:00"}
    change = {"symbol": "BTCUSDT", "open_time": "2024-11-05T08:00", "field": "high", "delta": "1.5"}
    box = Sandbox(
        SandboxConfig.model_validate({"archive_omissions": [hole], "archive_differences": [change]})
    )
    daily = ArchiveFile(Market.SPOT, "BTCUSDT", Interval.H1, date(2024, 11, 5))
    of_month = csv_of(box, ArchiveFile(Market.SPOT, "BTCUSDT", Interval.H1, Month(2024, 11)))
    of_day = csv_of(box, daily)
    assert len(of_day) == 22
    assert len(of_month) == 30 * 24 - 2
    differing = [(a, b) for a in of_day for b in of_month if a[0] == b[0] and a != b]
    assert [float(b[2]) - float(a[2]) for a, b in differing] == [1.5]
    start, end = daily.bounds
    assert (
        len(box.source.klines(KlineQuery(Market.SPOT, "BTCUSDT", Interval.H1, start, end - 1, 1000), NEVER))
        == 24
    )
