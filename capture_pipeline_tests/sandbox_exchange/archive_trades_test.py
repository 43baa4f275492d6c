"""Tests of archive files of trades: the trades of streams and REST, and the faults of files."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
import requests

from capture_pipeline.binance.archive.protocol import parse_checksum, parse_listing
from capture_pipeline.binance.periods import Month, parse_time
from capture_pipeline.binance.urls import (
    AGG_TRADES,
    ArchiveFile,
    Market,
    TradesFile,
    parse_name,
    parse_trades_name,
)
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.golden.proof.published_trades import parse_published_trades
from capture_pipeline_tests.support.exchange.streams import check_aggregates
from sandbox_exchange.config.spans import Outage
from sandbox_exchange.server.server import SandboxConfig, SandboxServer

SMALL = {
    "symbol": "BTCUSDT",
    "base_price": 60000,
    "tick_size": 0.01,
    "lot_size": 0.00001,
    "trades_per_day": 2000,
    "listed": "2024-12-30",
}
MARKET = {"now": "2025-02-10T12:00:00Z", "frozen": True, "symbols": [SMALL]}
OLD, NEW = (
    TradesFile(Market.SPOT, "BTCUSDT", date(2024, 12, 31)),
    TradesFile(Market.SPOT, "BTCUSDT", date(2025, 1, 1)),
)
BAD_CSV: tuple[str, ...] = (
    "csv_empty",
    "csv_missing_column",
    "csv_extra_column",
    "csv_conflicting_duplicate",
    "csv_future",
)
BAD_CSV += ("csv_other_month", "csv_negative", "csv_nan", "csv_exponent")
BAD_ZIP = ("zip_truncated", "zip_bit_flip", "zip_two_entries", "zip_other_name", "zip_overlapping")
FUTURES = TradesFile(Market.UM, "BTCUSDT", date(2025, 1, 1))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with SandboxServer(SandboxConfig.model_validate(MARKET)) as server:
        yield server.url


def download(url: str, file: TradesFile | ArchiveFile) -> bytes:
    answer = requests.get(f"{url}/{file.path}", timeout=30)
    answer.raise_for_status()
    return answer.content


def rows(url: str, file: TradesFile) -> list[list[str]]:
    with zipfile.ZipFile(io.BytesIO(download(url, file))) as archive:
        return [line.split(",") for line in archive.read(f"{file.stem}.csv").decode().splitlines()]


def rest(url: str, bounds: tuple[int, int], root: str = "/api/v3") -> list[dict[str, Any]]:
    """Download all aggregates of a period; some pages end between two aggregates of one millisecond."""
    query: dict[str, str | int] = {"symbol": "BTCUSDT", "limit": 21}
    start, end = (bound // 1000 for bound in bounds)
    found: list[dict[str, Any]] = requests.get(
        f"{url}{root}/aggTrades", params=query | {"startTime": start}, timeout=30
    ).json()
    inside = 0
    while found[-1]["T"] < end:
        page = requests.get(
            f"{url}{root}/aggTrades", params=query | {"fromId": found[-1]["a"] + 1}, timeout=30
        ).json()
        inside += page[0]["T"] == found[-1]["T"]
        found += page
    assert inside
    return [one for one in found if one["T"] < end]


def test_spot_rows_are_the_exchange_s(url: str) -> None:
    """Spot rows have seven columns, no header, True and False; microseconds from 2025 on."""
    old, new = rows(url, OLD), rows(url, NEW)
    for found, digits in ((old, 13), (new, 16)):
        assert {len(row) for row in found} == {7}
        assert {row[5] for row in found} == {"True", "False"}
        assert {row[6] for row in found} == {"True"}
        assert {len(row[4]) for row in found} == {digits}
        assert all(Decimal(row[1]) * Decimal(row[2]) == Decimal(row[3]) for row in found)
    assert int(new[0][0]) == int(old[-1][0]) + 1


def test_futures_rows_are_the_exchange_s(url: str) -> None:
    """Futures rows have six columns, a header, true and false, and milliseconds."""
    header, *found = rows(url, FUTURES)
    assert header == ["id", "price", "qty", "quote_qty", "time", "is_buyer_maker"]
    assert {row[5] for row in found} == {"true", "false"}
    assert {len(row[4]) for row in found} == {13}


@pytest.mark.parametrize(("file", "root"), [(NEW, "/api/v3"), (FUTURES, "/fapi/v1")])
def test_files_hold_the_trades_of_rest(file: TradesFile, root: str) -> None:
    """Files contain the trades and aggregates of REST, and the client parses them exactly."""
    with SandboxServer(SandboxConfig.model_validate(MARKET | {"now": "2025-01-02T12:00:00Z"})) as server:
        url, aggregates_file = server.url, replace(file, kind=AGG_TRADES)
        found = [row for row in rows(url, file) if row[0].isdigit()]
        assert len(found) == SMALL["trades_per_day"]
        unit = 1000 if len(found[0][4]) == 16 else 1
        published = {
            int(row[0]): (row[1], row[2], int(row[4]) // unit, row[5].lower() == "true") for row in found
        }
        aggregates = rest(url, file.bounds, root)
        check_aggregates(aggregates, published)
        put_together = [row for row in rows(url, aggregates_file) if row[0].isdigit()]
        assert [
            (
                *map(int, (row[0], row[3], row[4])),
                row[1],
                row[2],
                int(row[5]) // unit,
                row[6].lower() == "true",
            )
            for row in put_together
        ] == [tuple(one[name] for name in "aflpqTm") for one in aggregates]
        for read, those in ((file, found), (aggregates_file, put_together)):
            frame = parse_published_trades(download(url, read), read.stem, 1 << 24, file.bounds)
            assert frame["trade_id"].to_list() == [int(row[0]) for row in those]


@pytest.mark.parametrize(("market", "root"), [(Market.SPOT, "/api/v3"), (Market.UM, "/fapi/v1")])
def test_a_cheap_coin_has_quantities_of_eleven_digits(market: Market, root: str) -> None:
    """The volume of a candle is the sum of its trades, even if it exceeds 64 bits in units of 1e-8."""
    cheap = SMALL | {"symbol": "PEPEUSDT", "base_price": 0.00000012, "tick_size": 0.00000001, "lot_size": 1}
    with SandboxServer(SandboxConfig.model_validate(MARKET | {"symbols": [cheap]})) as server:
        file = TradesFile(market, "PEPEUSDT", date(2025, 1, 1))
        frame = parse_published_trades(download(server.url, file), file.stem, 1 << 24, file.bounds)
        params: dict[str, str | int] = {
            "symbol": "PEPEUSDT",
            "interval": "1d",
            "startTime": file.bounds[0] // 1000,
            "limit": 1,
        }
        candle = requests.get(f"{server.url}{root}/klines", params=params, timeout=60).json()[0]
    quantities = frame["quantity_e8"].to_list()
    assert max(quantities) > 10**18
    assert sum(quantities) > 2**63
    assert Decimal(candle[5]) == Decimal(sum(quantities)).scaleb(-8)


def test_a_file_has_checksum_etag_and_ranges(url: str) -> None:
    """Files of trades have the same headers as files of klines."""
    body = download(url, NEW)
    answer = requests.get(f"{url}/{NEW.path}", headers={"Range": "bytes=100-199"}, timeout=30)
    assert (answer.status_code, answer.content) == (206, body[100:200])
    assert answer.headers["ETag"] == f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
    text = requests.get(f"{url}/{NEW.path}.CHECKSUM", timeout=30).text
    assert parse_checksum(text, NEW.name) == hashlib.sha256(body).hexdigest()


def test_a_month_is_its_days(url: str) -> None:
    """The monthly file contains the rows of the daily files in order."""
    monthly = rows(url, TradesFile(Market.SPOT, "BTCUSDT", Month(2025, 1)))
    days = [
        row
        for day in range(1, 32)
        for row in rows(url, TradesFile(Market.SPOT, "BTCUSDT", date(2025, 1, day)))
    ]
    assert monthly == days


def test_the_listing_shows_trades_beside_klines(url: str) -> None:
    """Files of trades are listed in the folder of their symbol, with correct sizes."""

    def listed(prefix: str) -> Any:
        return parse_listing(
            requests.get(f"{url}/", params={"prefix": prefix, "delimiter": "/"}, timeout=30).content
        )

    root = "data/spot/daily/"
    assert listed(root).folders == [f"{root}{data}/" for data in ("aggTrades", "klines", "trades")]
    assert listed(f"{root}trades/").folders == [f"{root}trades/BTCUSDT/"]
    files = listed(f"{root}trades/BTCUSDT/").files
    assert len(files) == 2 * (2 + 31 + 9)
    assert {file.key: file.size for file in files}[NEW.path] == len(download(url, NEW))
    assert listed(f"{root}trades/BTCUSDT/1m/").files == []
    aggregates = TradesFile(Market.SPOT, "BTCUSDT", NEW.period, "aggTrades")
    sizes = {file.key: file.size for file in listed(f"{root}aggTrades/BTCUSDT/").files}
    assert len(sizes) == len(files)
    assert sizes[aggregates.path] == len(download(url, aggregates))


def test_files_come_the_day_after_and_not_of_days_without_trades() -> None:
    """A daily file appears 5 hours after its day; a closed day has no file."""
    outage = {"start": "2025-01-03", "end": "2025-01-05"}
    with SandboxServer(
        SandboxConfig.model_validate({**MARKET, "now": "2025-01-02T04:59:59Z", "outages": [outage]})
    ) as server:

        def status(day: date) -> int:
            return requests.head(
                f"{server.url}/{TradesFile(Market.SPOT, 'BTCUSDT', day).path}", timeout=30
            ).status_code

        assert status(date(2025, 1, 1)) == 404
        requests.post(f"{server.url}/_sandbox/clock", json={"now": "2025-01-02T05:00:00Z"}, timeout=30)
        assert (status(date(2025, 1, 1)), status(date(2025, 1, 2)), status(date(2024, 12, 29))) == (
            200,
            404,
            404,
        )
        requests.post(f"{server.url}/_sandbox/clock", json={"now": "2025-01-06T05:00:00Z"}, timeout=30)
        assert [status(date(2025, 1, day)) for day in (2, 3, 4, 5)] == [200, 404, 404, 200]
    assert Outage.model_validate(outage).start == parse_time("2025-01-03")


def test_a_version_published_anew_has_one_other_quantity() -> None:
    """A revision differs in one quantity; the checksum is that of the revision."""
    with SandboxServer(SandboxConfig.model_validate(MARKET)) as server:
        before = rows(server.url, NEW)
        requests.post(
            f"{server.url}/_sandbox/republish", json={"key": NEW.path}, timeout=30
        ).raise_for_status()
        changed = [(old, new) for old, new in zip(before, rows(server.url, NEW), strict=True) if old != new]
        assert [[column for column in range(7) if old[column] != new[column]] for old, new in changed] == [
            [2]
        ]
        text = requests.get(f"{server.url}/{NEW.path}.CHECKSUM", timeout=30).text
        assert parse_checksum(text, NEW.name) == hashlib.sha256(download(server.url, NEW)).hexdigest()


@pytest.mark.parametrize("fault", [*BAD_CSV, *BAD_ZIP])
def test_faults_of_files_hit_trades_and_are_seen(fault: str) -> None:
    """The client rejects each damaged file of spot and futures."""
    rule: dict[str, Any] = {"match": {"path": "*-trades-*"}, "fault": fault}
    # Spot files without their last column would look like futures files, so the first column is removed.
    rule = {**rule, "cut": 0} if fault == "csv_missing_column" else rule
    with SandboxServer(SandboxConfig.model_validate({**MARKET, "faults": [rule]})) as server:
        for file in (NEW, FUTURES):
            with pytest.raises(MalformedDataError):
                parse_published_trades(download(server.url, file), file.stem, 1 << 24, file.bounds)
        assert server.sandbox.faults.count_injected(fault) == 2


@pytest.mark.parametrize(
    "fault",
    [
        "csv_header",
        "csv_bom",
        "csv_crlf",
        "csv_duplicates",
        "csv_unordered",
        "csv_unaligned",
        "csv_unclosed",
        "csv_mixed_units",
    ],
)
def test_faults_without_consequence_change_no_trade(url: str, fault: str) -> None:
    """Faults that change no value give the same trades; faults of candles do not apply."""
    with SandboxServer(
        SandboxConfig.model_validate(
            {**MARKET, "faults": [{"match": {"path": "*-trades-*"}, "fault": fault}]}
        )
    ) as server:
        for file in (NEW, FUTURES):
            damaged = parse_published_trades(download(server.url, file), file.stem, 1 << 24, file.bounds)
            correct = parse_published_trades(download(url, file), file.stem, 1 << 24, file.bounds)
            columns = [name for name in correct.columns if name != "trade_us" or fault != "csv_mixed_units"]
            assert damaged.select(columns).equals(correct.select(columns))
            assert (damaged["trade_us"] // 1000).equals(correct["trade_us"] // 1000)


def test_names_of_trades_and_klines_are_told_apart() -> None:
    """The parser of kline names rejects names of trades, and the reverse."""
    assert parse_trades_name(NEW.name, Market.SPOT) == NEW
    assert parse_trades_name("BTCUSDT-trades-2025-01.zip", Market.SPOT) == TradesFile(
        Market.SPOT, "BTCUSDT", Month(2025, 1)
    )
    assert parse_name(NEW.name, Market.SPOT) is None
    assert parse_trades_name("BTCUSDT-1m-2025-01-01.zip", Market.SPOT) is None
    assert parse_trades_name("BTCUSDT-trades-2025-13-01.zip", Market.SPOT) is None
