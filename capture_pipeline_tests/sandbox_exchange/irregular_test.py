"""Tests of irregular klines: monthly files, daily files and REST agree row by row."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture_pipeline.binance.periods import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    SECOND_US,
    Interval,
    Month,
    parse_time,
)
from capture_pipeline.binance.urls import ArchiveFile, Granularity, Market, TradesFile
from capture_pipeline.errors import ConfigError
from sandbox_exchange.config.models import validate_model
from sandbox_exchange.market.source import AnyFile, KlineQuery
from sandbox_exchange.server.server import Sandbox, SandboxConfig, SandboxServer
from sandbox_exchange.sources.synthetic import apply_difference

DAY = date(2024, 12, 18)
START = parse_time("2024-12-18")
HALT, RESTART, ON_GRID = (parse_time(f"2024-12-18T{time}") for time in ("09:28:14.789", "10:00", "13:00"))
EARLY = {"start": "2024-12-18T09:28:14.789Z", "end": "2024-12-18T10:00:00Z", "last_candle": "early"}
OFF_GRID = {"start": "2024-12-18T10:00:00Z", "end": "2024-12-18T13:00:00Z", "shift_s": "1694.789"}
NEVER = 1 << 62
SHIFT_US = 1_694_789_000


def box_of(**keys: Any) -> Sandbox:
    return Sandbox(SandboxConfig.model_validate({"symbols": ["BTCUSDT", "ETHUSDT"], **keys}))


def rest(
    box: Sandbox,
    interval: Interval,
    start: int,
    end: int,
    *,
    market: Market = Market.SPOT,
    symbol: str = "BTCUSDT",
) -> pl.DataFrame:
    """Request all candles in `[start, end)` from REST."""
    return box.source.klines(KlineQuery(market, symbol, interval, start, end - 1, 100_000), NEVER)


def rows_of(box: Sandbox, file: AnyFile) -> list[list[str]]:
    """Read the rows of a published file without its header."""
    published = box.archive.read_zip(file.path)
    if published is None:
        pytest.fail(f"{file.path} is not published")
    with zipfile.ZipFile(io.BytesIO(published.body)) as archive:
        lines = archive.read(f"{file.stem}.csv").decode().splitlines()
    return [line.split(",") for line in lines if line[0].isdigit()]


def texts(frame: pl.DataFrame, *, micro: bool) -> list[list[str]]:
    """Convert candles of REST to rows of a file."""
    times = frame if micro else frame.with_columns(pl.col("open_us", "close_us") // 1000)
    return [[str(value) for value in row] for row in times.iter_rows()]


@pytest.fixture(scope="module")
def real_world() -> Sandbox:
    return Sandbox(SandboxConfig.model_validate({"profile": "real_world", "frozen": True}))


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "SOLUSDT"])
@pytest.mark.parametrize(("market", "interval"), [(Market.SPOT, Interval.M15), (Market.UM, Interval.H1)])
def test_profile_files_and_rest_agree_row_by_row(
    real_world: Sandbox, market: Market, interval: Interval, symbol: str
) -> None:
    """Files contain the rows of REST, except the rows that the profile omits, changes or repeats."""
    box = real_world
    for month in Month.range(Month(2024, 11), Month(2025, 1)):
        candles = rest(box, interval, month.start_us, month.end_us, market=market, symbol=symbol)
        micro = market is Market.SPOT and month.year == 2025
        expected = texts(_convert_to_file_rows(box, candles, symbol, Granularity.MONTHLY), micro=micro)
        file = ArchiveFile(market, symbol, interval, month)
        if not expected:
            assert box.archive.read_zip(file.path) is None
            continue
        found = rows_of(box, file)
        assert [
            list(row) for row in sorted({tuple(row) for row in found}, key=lambda row: int(row[0]))
        ] == expected


@pytest.mark.parametrize(
    "day", ["2024-11-07", "2024-12-05", "2024-12-10", "2024-12-18", "2025-01-15", "2025-01-20", "2025-01-28"]
)
def test_daily_files_of_irregular_days_are_the_rows_of_rest(real_world: Sandbox, day: str) -> None:
    """All intervals agree, on one day also that of a second."""
    start = parse_time(day)
    for interval in (Interval.M1, Interval.H1, Interval.H12, *([Interval.S1] if day == "2024-12-18" else [])):
        candles = _convert_to_file_rows(
            real_world, rest(real_world, interval, start, start + DAY_US), "BTCUSDT", Granularity.DAILY
        )
        found = rows_of(real_world, ArchiveFile(Market.SPOT, "BTCUSDT", interval, date.fromisoformat(day)))
        assert found == texts(candles, micro=start >= parse_time("2025-01-01")), interval


def _convert_to_file_rows(
    box: Sandbox, candles: pl.DataFrame, symbol: str, granularity: Granularity
) -> pl.DataFrame:
    for hole in box.config.archive_omissions:
        if hole.symbol == symbol and granularity in hole.granularities:
            candles = candles.filter(~pl.col("open_us").is_between(hole.start, hole.end, closed="left"))
    for change in box.config.archive_differences:
        candles = (
            apply_difference(candles, change)
            if (change.symbol, change.granularity) == (symbol, granularity)
            else candles
        )
    return candles


def test_profile_has_each_irregularity_as_documented(real_world: Sandbox) -> None:
    """The hours of four months contain each irregularity of the profile."""
    hours = rest(real_world, Interval.H1, parse_time("2024-11-01"), parse_time("2025-02-01"))
    regular_close = pl.col("open_us") + HOUR_US - 1
    odd = hours.filter(pl.col("close_us") != regular_close)
    assert {(row["open_us"], row["close_us"]) for row in odd.to_dicts()} == {
        (parse_time("2024-12-05T06:00"), parse_time("2024-12-05T06:00") - 1),
        (parse_time("2024-12-18T09:00"), HALT - 1),
        (parse_time("2025-01-15T02:00"), parse_time("2025-01-15T02:00:21.5") - 1),
    }
    off_grid_hours = hours.filter(pl.col("open_us") % HOUR_US != 0)
    assert off_grid_hours["open_us"].to_list() == [
        RESTART + number * HOUR_US + SHIFT_US for number in range(3)
    ]
    texts_in = Counter(Month.of(row["open_us"]) for row in hours.to_dicts() if row["ignore"] != "0")
    assert texts_in == {Month(2024, 11): 720}
    assert (
        real_world.archive.read_zip(ArchiveFile(Market.SPOT, "SOLUSDT", Interval.H1, Month(2024, 12)).path)
        is None
    )
    twice = Counter(
        row[0]
        for row in rows_of(real_world, ArchiveFile(Market.SPOT, "BTCUSDT", Interval.H1, Month(2024, 12)))
    )
    assert sorted(count for count in twice.values() if count > 1) == [2, 2, 2, 2]
    january = [
        int(row[0])
        for row in rows_of(real_world, ArchiveFile(Market.SPOT, "ETHUSDT", Interval.H1, Month(2025, 1)))
    ]
    assert sum(later < earlier for earlier, later in pairwise(january)) == 3
    december = rows_of(real_world, ArchiveFile(Market.SPOT, "ETHUSDT", Interval.H1, Month(2024, 12)))
    assert len(december) == 31 * 24 - 3


@pytest.mark.parametrize("interval", list(Interval))
def test_last_candle_before_a_halt_closes_early(interval: Interval) -> None:
    """The last candle keeps its trades and closes 1 µs before the halt; other candles do not change."""
    box = box_of(outages=[EARLY])
    candles = rest(box, interval, START, START + DAY_US)
    (last,) = candles.filter(pl.col("close_us") != pl.col("open_us") + interval.us - 1).to_dicts()
    assert (last["open_us"], last["close_us"]) == (interval.floor(HALT), HALT - 1)
    assert candles.filter(pl.col("open_us") > last["open_us"])["open_us"].head(1).to_list() in (
        [],
        [max(RESTART, last["open_us"] + interval.us)],
    )
    whole = rest(box_of(outages=[{**EARLY, "last_candle": "whole"}]), interval, START, START + DAY_US)
    assert candles.drop("close_us").equals(whole.drop("close_us"))


@pytest.mark.parametrize(
    ("interval", "opens"),
    [(Interval.S1, "06:00"), (Interval.M1, "06:00"), (Interval.H1, "06:00"), (Interval.H4, "04:00")],
)
def test_inverted_candle_closes_before_it_opens(interval: Interval, opens: str) -> None:
    """An empty candle that opens at the halt closes before it opens; a longer candle closes early."""
    box = box_of(
        outages=[{"start": "2024-12-18T06:00", "end": "2024-12-18T07:00", "last_candle": "inverted"}]
    )
    halt, candles = parse_time("2024-12-18T06:00"), rest(box, interval, START, START + DAY_US)
    (last,) = candles.filter(pl.col("close_us") != pl.col("open_us") + interval.us - 1).to_dicts()
    assert (last["open_us"], last["close_us"]) == (parse_time(f"2024-12-18T{opens}"), halt - 1)
    if last["open_us"] == halt:
        assert (last["count"], float(last["volume"])) == (0, 0)
        assert last["open"] == last["close"] == candles.filter(pl.col("open_us") < halt)["close"][-1]
        assert not len(candles.filter(pl.col("open_us").is_between(halt, halt + HOUR_US, closed="none")))
    if interval is not Interval.S1:
        assert rows_of(box, ArchiveFile(Market.SPOT, "BTCUSDT", interval, DAY)) == texts(candles, micro=False)


@pytest.mark.parametrize("kind", ["early", "inverted"])
def test_halt_of_a_suspended_symbol_changes_no_candle(kind: str) -> None:
    """A halt that starts during a suspension adds and changes no candle."""
    halt = {"start": "2024-12-18T06:00", "end": "2024-12-18T07:00", "last_candle": kind}
    span = {"symbol": "BTCUSDT", "start": "2024-12-18T05:00", "end": "2024-12-18T07:30"}
    for interval in (Interval.M1, Interval.H4):
        candles = rest(box_of(outages=[halt], suspensions=[span]), interval, START, START + DAY_US)
        assert candles.equals(rest(box_of(suspensions=[span]), interval, START, START + DAY_US))


def test_halt_ahead_does_not_show() -> None:
    """The unfinished candle has the usual close time until the halt starts."""
    box = box_of(outages=[EARLY])
    query = KlineQuery(Market.SPOT, "BTCUSDT", Interval.H1, None, None, 1)
    before, after = (
        box.source.klines(query, now).to_dicts()[0] for now in (HALT - SECOND_US, HALT + SECOND_US)
    )
    assert before["open_us"] == after["open_us"] == HALT - HALT % HOUR_US
    assert (before["close_us"], after["close_us"]) == (before["open_us"] + HOUR_US - 1, HALT - 1)


def test_outages_may_concern_one_market() -> None:
    """An outage of spot does not change candles of futures."""
    box = box_of(outages=[{**EARLY, "market": "spot"}])
    minutes = {market: len(rest(box, Interval.M1, START, START + DAY_US, market=market)) for market in Market}
    assert minutes == {Market.SPOT: 1440 - 31, Market.UM: 1440}


@pytest.mark.parametrize(
    ("interval", "shift_us"),
    [(Interval.S1, 789_000), (Interval.M1, 14_789_000), (Interval.H1, SHIFT_US), (Interval.H12, SHIFT_US)],
)
def test_off_grid_candles_are_shifted_modulo_the_interval(interval: Interval, shift_us: int) -> None:
    """Candles between the restart and the return to the grid have shifted times and the same values."""
    shifted = rest(box_of(off_grid=[OFF_GRID]), interval, START, START + DAY_US)
    plain = rest(box_of(), interval, START, START + DAY_US)
    inside = plain["open_us"].is_between(RESTART, ON_GRID, closed="left")
    assert inside.any()
    assert (shifted["open_us"] - plain["open_us"]).to_list() == (inside.cast(pl.Int64) * shift_us).to_list()
    assert (shifted["close_us"] - plain["close_us"]).to_list() == (inside.cast(pl.Int64) * shift_us).to_list()
    assert shifted.drop("open_us", "close_us").equals(plain.drop("open_us", "close_us"))


OFF_BOX = box_of(off_grid=[OFF_GRID], outages=[EARLY])
ALL_OPENS = {
    step: rest(OFF_BOX, step, START, START + DAY_US)["open_us"].to_numpy()
    for step in (Interval.M15, Interval.H1)
}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    step=st.sampled_from([Interval.M15, Interval.H1]),
    start=st.none() | st.integers(0, 24 * 60),
    length=st.integers(0, 6 * 60),
    limit=st.integers(1, 12),
    seconds=st.sampled_from([0, 14.789, 14.790]),
)
def test_pages_go_by_the_shown_open_times(
    step: Interval, start: int | None, length: int, limit: int, seconds: float
) -> None:
    """REST returns the first candles of a range, or the last ones without a start, also off the grid."""
    offset = round(seconds * SECOND_US)
    first = None if start is None else START + start * MINUTE_US + offset
    end = (START + 12 * HOUR_US if first is None else first) + length * MINUTE_US
    opens = ALL_OPENS[step]
    expected = opens[(opens >= (first or 0)) & (opens <= end) & (opens < START + DAY_US)]
    found = OFF_BOX.source.klines(
        KlineQuery(Market.SPOT, "BTCUSDT", step, first, min(end, START + DAY_US - 1), limit), NEVER
    )
    assert (
        found["open_us"].to_list() == (expected[:limit] if first is not None else expected[-limit:]).tolist()
    )


def test_shifted_candles_open_at_their_shown_time() -> None:
    """A shifted candle does not exist a minute before its shifted open time."""
    query = KlineQuery(Market.SPOT, "BTCUSDT", Interval.H1, None, None, 1)
    opens = [OFF_BOX.source.klines(query, RESTART + SHIFT_US + by)["open_us"][0] for by in (-MINUTE_US, 0)]
    assert opens == [HALT - HALT % HOUR_US, RESTART + SHIFT_US]


def test_ignore_holds_the_text_of_its_time() -> None:
    """The column contains decimals or a given text, in files and REST of the configured symbols."""
    texts_of = [
        {"start": "2024-12-18T00:00", "end": "2024-12-18T02:00", "symbols": ["BTCUSDT"], "market": "spot"},
        {"start": "2024-12-18T02:00", "end": "2024-12-18T03:00", "text": "n/a"},
    ]
    box = box_of(ignore_texts=texts_of)
    hours = rest(box, Interval.H1, START, START + DAY_US)["ignore"].to_list()
    assert all(float(text) > 0 and len(text.partition(".")[2]) == 8 for text in hours[:2])
    assert (hours[0] == hours[1], hours[2], set(hours[3:])) == (False, "n/a", {"0"})
    assert [row[11] for row in rows_of(box, ArchiveFile(Market.SPOT, "BTCUSDT", Interval.H1, DAY))] == hours
    assert rest(box, Interval.H1, START, START + DAY_US, symbol="ETHUSDT")["ignore"].to_list()[:3] == [
        "0",
        "0",
        "n/a",
    ]
    assert rest(box, Interval.H1, START, START + DAY_US, market=Market.UM)["ignore"].to_list()[:3] == [
        "0",
        "0",
        "n/a",
    ]


def test_suspended_symbol_has_no_candle_no_trade_no_file_and_its_status() -> None:
    """Suspended months have no file; ids continue; the other symbol does not change."""
    span = {"symbol": "BTCUSDT", "start": "2024-08-20T06:00", "end": "2024-11-02T12:00", "status": "HALT"}
    keys = {"symbols": ["BTCUSDT", "ETHUSDT"], "suspensions": [span], "now": "2024-10-01", "frozen": True}
    with SandboxServer(SandboxConfig.model_validate(keys)) as server:
        info = requests.get(f"{server.url}/api/v3/exchangeInfo", timeout=60).json()["symbols"]
        assert {each["symbol"]: each["status"] for each in info} == {"BTCUSDT": "HALT", "ETHUSDT": "TRADING"}
        box = server.sandbox
        files = box.source.files(
            Market.SPOT, Granularity.MONTHLY, "BTCUSDT", Interval.H1, parse_time("2025-01-01")
        )
        assert [str(file.period) for file in files][-3:] == ["2024-08", "2024-11", "2024-12"]
        assert not len(rest(box, Interval.H1, parse_time("2024-08-20T06:00"), parse_time("2024-11-02T12:00")))
        around = rest(box, Interval.H1, parse_time("2024-08-20T05:00"), parse_time("2024-11-02T13:00"))[
            "open_us"
        ].to_list()
        assert around == [parse_time("2024-08-20T05:00"), parse_time("2024-11-02T12:00")]
        assert box.market is not None
        trades = box.market.trades(Market.SPOT, "BTCUSDT", parse_time("2024-08-20"), parse_time("2024-11-03"))
        assert (np.diff(trades.ids) == 1).all()
        assert (
            box.source.status(Market.SPOT, box.source.symbols(Market.SPOT)[0], parse_time("2024-11-02T12:00"))
            == "TRADING"
        )


@pytest.mark.parametrize("market", list(Market))
def test_files_repeat_rows_and_reverse_their_order(market: Market) -> None:
    """Only the configured files differ."""
    span = {
        "symbol": "BTCUSDT",
        "start": "2024-12-18T03:00",
        "end": "2024-12-18T05:00",
        "granularities": ["daily"],
    }
    plain, twice, back = box_of(), box_of(archive_repeats=[span]), box_of(archive_disorder=[span])
    only_klines = box_of(archive_repeats=[{**span, "data": ["klines"]}])
    klines, trades = ArchiveFile(market, "BTCUSDT", Interval.H1, DAY), TradesFile(market, "BTCUSDT", DAY)
    for file, time, unit in ((klines, 0, 1000), (trades, 4, 1000)):
        rows = rows_of(plain, file)
        inside = [row for row in rows if START + 3 * HOUR_US <= int(row[time]) * unit < START + 5 * HOUR_US]
        at = rows.index(inside[0])
        assert rows_of(twice, file) == rows[: at + len(inside)] + inside + rows[at + len(inside) :]
        assert rows_of(back, file) == rows[:at] + inside[::-1] + rows[at + len(inside) :]
    assert rows_of(only_klines, trades) == rows_of(plain, trades)
    monthly = ArchiveFile(market, "BTCUSDT", Interval.H1, Month(2024, 12))
    assert rows_of(twice, monthly) == rows_of(back, monthly) == rows_of(plain, monthly)


def test_keys_of_the_user_win_over_the_profile() -> None:
    """A key replaces the same key of the profile; hyphens and underscores in names are equal."""
    config = SandboxConfig.model_validate({"profile": "real-world", "symbols": ["BTCUSDT"], "outages": []})
    assert ([spec.symbol for spec in config.symbols], config.outages, config.seed) == (["BTCUSDT"], (), 7)
    assert config.off_grid == SandboxConfig.model_validate({"profile": "real_world"}).off_grid != ()


@pytest.mark.parametrize(
    ("keys", "error_text"),
    [
        ({"profile": "tidy"}, "there is no profile 'tidy'; use one of: real-world"),
        ({"profile": "real_world", "recorded": "."}, "remove recorded and replay"),
        ({"profile": "real_world", "replay": "x"}, "remove recorded and replay"),
        (
            {"off_grid": [{**OFF_GRID, "start": "2024-12-18T09:59"}], "outages": [EARLY]},
            "must not overlap an outage",
        ),
        ({"off_grid": [{**OFF_GRID, "shift_s": 0}]}, "off_grid.0.shift_s"),
        (
            {"suspensions": [{"symbol": "BTCUSDT", "start": "2024-12-18", "end": "2024-12-18"}]},
            "end must be later than start",
        ),
        (
            {"archive_omissions": [{"symbol": "BTCUSDT", "start": "2024-12-18", "end": "2024-12-17"}]},
            "end must be later than start",
        ),
        (
            {"ignore_texts": [{"start": "2024-12-18", "end": "2024-12-19", "text": "a,b"}]},
            "ignore_texts.0.text",
        ),
        ({"outages": [{**EARLY, "last_candle": "late"}]}, "outages.0.last_candle"),
    ],
)
def test_settings_that_make_no_sense_are_refused(keys: dict[str, Any], error_text: str) -> None:
    """The error contains the key or the remedy."""
    with pytest.raises(ConfigError) as refused:
        validate_model(SandboxConfig, keys, "sandbox.yaml")
    assert error_text in str(refused.value)
    assert "\n" not in str(refused.value)


def test_off_grid_and_an_outage_of_another_symbol_may_overlap() -> None:
    """Settings of different symbols may overlap."""
    box_of(
        off_grid=[{**OFF_GRID, "symbols": ["BTCUSDT"]}],
        outages=[{**EARLY, "end": "2024-12-18T11:00", "symbols": ["ETHUSDT"]}],
    )
    box_of(
        off_grid=[{**OFF_GRID, "market": "spot"}],
        outages=[{**EARLY, "end": "2024-12-18T11:00", "market": "um"}],
    )
