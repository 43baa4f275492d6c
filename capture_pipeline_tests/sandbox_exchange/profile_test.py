"""Tests of the real-world profile: names, contracts, checksum files and ids of futures trades."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest
import requests

from capture_pipeline.binance.archive.protocol import parse_checksum, parse_listing
from capture_pipeline.binance.streams.messages import decode_depth
from capture_pipeline.errors import ConfigError
from capture_pipeline_tests.support.exchange.streams import (
    BUSY,
    DEPTH,
    NOW_US,
    Exchange,
    check_aggregates,
    exchange,
    receive,
    receive_data,
    until,
)
from sandbox_exchange.config.models import SandboxConfig, validate_model

UNICODE, CONTRACT = "币安人生USDT", "BTCUSDT_250328"
SPOT, FUTURES = "data/spot", "data/futures/um"
TRADE = "btcusdt@trade"


@pytest.fixture(scope="module")
def profile() -> Iterator[Exchange]:
    """Run the profile with a stopped clock."""
    with exchange(
        profile="real_world",
        symbols=SandboxConfig.model_validate({"profile": "real_world"}).model_dump()["symbols"],
    ) as box:
        yield box


def fetch(box: Exchange, path: str) -> requests.Response:
    """Download a percent-encoded path."""
    return requests.get(f"{box.url}/{quote(path)}", timeout=30)


@pytest.mark.parametrize(
    ("symbol", "rest", "others", "archive"),
    [(UNICODE, "/api/v3", "/fapi/v1", SPOT), (CONTRACT, "/fapi/v1", "/api/v3", FUTURES)],
)
def test_a_symbol_is_listed_in_its_market_alone(
    profile: Exchange, symbol: str, rest: str, others: str, archive: str
) -> None:
    """The symbol has data under its percent-encoded name in one market; the other returns an error."""
    assert symbol in {each["symbol"] for each in profile.get(f"{rest}/exchangeInfo")["symbols"]}
    assert symbol not in {each["symbol"] for each in profile.get(f"{others}/exchangeInfo")["symbols"]}
    (candle,) = profile.get(f"{rest}/klines", symbol=symbol, interval="1h", startTime=0, limit=1)
    assert candle[0] % 3_600_000 == 0
    assert profile.get(f"{rest}/depth", symbol=symbol, limit=5)["bids"]
    assert profile.get(f"{rest}/aggTrades", symbol=symbol, limit=2)
    refused = requests.get(
        f"{profile.url}{others}/klines", params={"symbol": symbol, "interval": "1h"}, timeout=30
    )
    assert refused.json()["code"] == -1121
    folder, name = f"{archive}/monthly/klines/{symbol}/1h/", f"{symbol}-1h-2025-01.zip"
    zipped, checksum = fetch(profile, folder + name), fetch(profile, f"{folder}{name}.CHECKSUM")
    assert parse_checksum(checksum.text, name) == hashlib.sha256(zipped.content).hexdigest()
    page = parse_listing(
        requests.get(profile.url, params={"prefix": folder, "delimiter": "/"}, timeout=30).content
    )
    assert folder + name in {entry.key for entry in page.files}


def test_a_contract_states_its_delivery(profile: Exchange) -> None:
    """The contract is listed in addition to the perpetual contract of its pair."""
    listed = {each["symbol"]: each for each in profile.get("/fapi/v1/exchangeInfo")["symbols"]}
    fields = ("pair", "contractType", "baseAsset", "quoteAsset", "deliveryDate")
    assert [listed[CONTRACT][name] for name in fields] == [
        "BTCUSDT",
        "CURRENT_QUARTER",
        "BTC",
        "USDT",
        1_743_148_800_000,
    ]
    assert [listed["BTCUSDT"][name] for name in fields[:4]] == ["BTCUSDT", "PERPETUAL", "BTC", "USDT"]


def test_streams_have_the_name_in_small_letters(profile: Exchange) -> None:
    """The stream has a percent-encoded name; the messages contain the symbol as listed."""
    with profile.connect(f"/stream?streams={quote(UNICODE.lower())}@trade") as client:
        profile.advance(600)
        message = json.loads(receive(client, 1)[0])
        assert (message["stream"], message["data"]["s"]) == (f"{UNICODE.lower()}@trade", UNICODE)


CHECKSUM_FORMS = {
    "BTCUSDT-1h-2024-11.zip": "{digest}  {name}\r\n",
    "BTCUSDT-1h-2024-11-03.zip": "{digest}  {name}\r\n",
    "BTCUSDT-1h-2025-01.zip": "{digest} *{name}\n",
    "ETHUSDT-1h-2024-12.zip": "{capitals}  {name}\n",
    "SOLUSDT-1h-2025-01.zip": "{digest}  {name}",
    "ETHUSDT-1h-2025-01.zip": "{digest}  {name}\n",
}


@pytest.mark.parametrize("name", CHECKSUM_FORMS)
def test_checksum_files_have_the_form_of_their_file(profile: Exchange, name: str) -> None:
    """Each form contains the digest of the zip, and the client accepts it."""
    symbol, granularity = name.partition("-")[0], "daily" if name.count("-") > 3 else "monthly"
    path = f"{SPOT}/{granularity}/klines/{symbol}/1h/{name}"
    digest = hashlib.sha256(fetch(profile, path).content).hexdigest()
    text = fetch(profile, f"{path}.CHECKSUM").content.decode()
    assert text == CHECKSUM_FORMS[name].format(digest=digest, capitals=digest.upper(), name=name)
    assert parse_checksum(text, name) == digest


def test_a_form_that_does_not_exist_is_refused() -> None:
    """The error is one line with the key."""
    span = {"symbol": "BTCUSDT", "start": "2024-11-01", "end": "2024-12-01", "form": "rot13"}
    with pytest.raises(ConfigError, match=r"checksum_forms\.0\.form"):
        validate_model(SandboxConfig, {"checksum_forms": [span]}, "sandbox.yaml")


def sent(box: Exchange, address: str, stream: str, seconds: float) -> list[dict[str, Any]]:
    """Receive all messages of a futures stream in a period."""
    with box.connect(f"/fstream/public/stream?streams={address}") as client:
        box.advance(seconds)
        until(lambda: bool(box.control("streams")["position"] == box.control("clock")["now"]))
        return receive_data(client, box.control("streams")["streams"][f"fstream/{stream}"]["count"])


def test_some_ids_of_futures_trades_are_no_trades_of_the_market() -> None:
    """Ids are contiguous, `NA` has price and quantity 0, and REST and files have only market trades."""
    with exchange(order_types={"every": 7, "kinds": ["NA", "ADL"]}) as box:
        trades = sent(box, TRADE, TRADE, 60)
        assert [one["t"] for one in trades] == list(range(trades[0]["t"], trades[0]["t"] + len(trades)))
        kinds = Counter(one["X"] for one in trades)
        assert kinds["MARKET"] > 60
        assert 0 < kinds["ADL"] <= kinds["NA"] + 1 <= kinds["ADL"] + 2
        assert {one["X"] for one in trades if float(one["p"]) == 0} == {"NA"}
        market = [one for one in trades if one["X"] == "MARKET"]
        assert all(other["t"] - one["t"] in {1, 2} for one, other in pairwise(market))
        rest = box.get("/fapi/v1/aggTrades", symbol="BTCUSDT", startTime=NOW_US // 1000, limit=1000)
        check_aggregates(rest, {one["t"]: (one["p"], one["q"], one["T"], one["m"]) for one in market})
        ranges = [set(range(one["f"], one["l"] + 1)) for one in rest]
        others = {one["t"] for one in trades} - {one["t"] for one in market}
        assert others & set().union(*ranges)
        assert others - set().union(*ranges)


def test_without_the_setting_every_futures_trade_is_one_of_the_market() -> None:
    """All trades have the order type MARKET and the field order of the exchange."""
    with exchange(symbols=[BUSY]) as box:
        trades = sent(box, TRADE, TRADE, 30)
        assert {one["X"] for one in trades} == {"MARKET"}
        assert list(trades[0]) == ["e", "E", "T", "s", "t", "p", "q", "X", "m", "st"]


def test_levels_may_have_an_empty_third_element() -> None:
    """Levels have a third element as until 2019-03, and the same values."""
    with exchange(symbols=[BUSY]) as box, box.connect(f"/ws/{DEPTH}") as plain:
        box.faults({"fault": "ws_third_element", "times": "always", "match": {"path": "/stream"}})
        with box.connect(f"/stream?streams={DEPTH}") as faulty:
            box.advance(1)
            (message,), (normal,) = receive(faulty, 1), receive(plain, 1)
        data = json.loads(message)["data"]
        assert {len(level) for level in data["b"] + data["a"]} == {3}
        assert decode_depth(json.dumps(data).encode()) == decode_depth(normal)
