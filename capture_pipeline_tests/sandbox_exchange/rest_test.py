"""Tests of REST over HTTP: pages, parameters, errors, weights and limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import InvalidStatus

from capture_pipeline.binance.archive.klines.parser import parse_rest
from capture_pipeline.binance.http.settings import Http as HttpSettings
from capture_pipeline.binance.http.settings import RateLimits
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.binance.periods import Interval, parse_time
from capture_pipeline.binance.rest.client import RestClient, WeightGovernor
from capture_pipeline.binance.urls import Market
from capture_pipeline.deployment.address_limits import AddressLimits
from capture_pipeline_tests.support.exchange.streams import exchange
from sandbox_exchange.config.models import EndLocation
from sandbox_exchange.rest.rate_limiter import AddressLimiter, HostGroup, WeightLimiter
from sandbox_exchange.server.server import SandboxConfig, SandboxServer

NOW = "2025-02-01T10:20:30Z"
HOUR_MS = 3_600_000
OUTAGE = {"start": "2024-07-01T00:00", "end": "2024-07-03T06:00"}


def ms(text: str) -> int:
    return parse_time(text) // 1000


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Run a sandbox with a stopped clock and an outage of two days in July."""
    settings = {
        "now": NOW,
        "frozen": True,
        "outages": [OUTAGE],
        "weight_budget": 10**6,
        "um_weight_budget": 10**6,
    }
    with SandboxServer(SandboxConfig.model_validate(settings)) as server:
        yield server.url


def klines(
    url: str, *, headers: dict[str, str] | None = None, root: str = "/api/v3", **params: str | int
) -> list[list[Any]]:
    """Request one page of BTCUSDT hours by default."""
    query = {"symbol": "BTCUSDT", "interval": "1h", **params}
    answer = requests.get(f"{url}{root}/klines", params=query, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    rows: list[list[Any]] = answer.json()
    return rows


@pytest.mark.parametrize(
    ("root", "query", "rows"),
    [("/api/v3", {}, 500), ("/api/v3", {"limit": 5000}, 1000), ("/fapi/v1", {"limit": 5000}, 1500)],
)
def test_limits_have_a_default_and_are_cut(url: str, root: str, query: dict[str, Any], rows: int) -> None:
    """A page has 500 rows by default, at most 1000 on spot and 1500 on futures."""
    assert len(klines(url, root=root, startTime=0, **query)) == rows


def test_rows_have_the_exchanges_types(url: str) -> None:
    """A row has twelve values: integer times and count, and strings; the client parses it."""
    answer = requests.get(f"{url}/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=2", timeout=30)
    row = answer.json()[0]
    assert [type(value) for value in row] == [int, str, str, str, str, str, int, str, int, str, str, str]
    assert row[6] == row[0] + HOUR_MS - 1
    assert len(parse_rest(answer.content, "test")) == 2


def test_start_zero_gives_the_first_candles_after_the_listing(url: str) -> None:
    """startTime=0 returns candles from the listing on."""
    assert [row[0] for row in klines(url, startTime=0, limit=2)] == [
        ms("2024-01-01T00:00"),
        ms("2024-01-01T01:00"),
    ]


def test_end_bounds_open_times_inclusively(url: str) -> None:
    """A candle that opens at endTime is in the page; one millisecond earlier it is not."""
    start = ms("2024-05-01")
    assert len(klines(url, startTime=start, endTime=start + 3 * HOUR_MS)) == 4
    assert len(klines(url, startTime=start, endTime=start + 3 * HOUR_MS - 1)) == 3


def test_without_start_the_latest_come_and_the_last_is_unfinished(url: str) -> None:
    """Without startTime the page has the newest candles; the last one closes in the future."""
    rows = klines(url, limit=3)
    assert [row[0] for row in rows] == [
        ms("2025-02-01T08:00"),
        ms("2025-02-01T09:00"),
        ms("2025-02-01T10:00"),
    ]
    assert rows[-1][6] > ms(NOW)
    assert 0 < rows[-1][8] < rows[-2][8]
    assert klines(url, endTime=ms("2024-05-01"), limit=1)[0][0] == ms("2024-05-01")


def test_nothing_opens_after_now(url: str) -> None:
    assert klines(url, startTime=ms(NOW)) == []


def test_pages_join_across_an_outage(url: str) -> None:
    """A page across an outage is full and has no candle of the outage."""
    rows = klines(url, startTime=ms("2024-06-30T20:00"), limit=6)
    assert [row[0] for row in rows[3:]] == [
        ms("2024-06-30T23:00"),
        ms("2024-07-03T06:00"),
        ms("2024-07-03T07:00"),
    ]
    assert klines(url, startTime=ms("2024-07-01"), endTime=ms("2024-07-02")) == []


def test_microseconds_on_request(url: str) -> None:
    """With the header, spot times are microseconds; request times may be microseconds too."""
    start = parse_time("2024-05-01")
    row = klines(url, headers={"X-MBX-TIME-UNIT": "MICROSECOND"}, startTime=start, limit=1)[0]
    assert (row[0], row[6]) == (start, start + 3_600_000_000 - 1)


SPOT, UM = "/api/v3", "/fapi/v1"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (SPOT + "/klines?interval=1h", -1102),
        (SPOT + "/klines?symbol=BTCUSDT", -1102),
        (SPOT + "/klines?symbol=&interval=1h", -1102),
        (SPOT + "/klines?symbol=btcusdt&interval=1h", -1100),
        (SPOT + "/klines?symbol=NOPEUSDT&interval=1h", -1121),
        (UM + "/klines?symbol=NOPEUSDT&interval=1h", -1121),
        (SPOT + "/klines?symbol=BTCUSDT&interval=2m", -1120),
        (UM + "/klines?symbol=BTCUSDT&interval=1s", -1120),
        (SPOT + "/klines?symbol=BTCUSDT&interval=1h&limit=ten", -1100),
        (SPOT + "/klines?symbol=BTCUSDT&interval=1h&limit=0", -1130),
        (SPOT + "/klines?symbol=BTCUSDT&interval=1h&startTime=-5", -1100),
        (SPOT + "/klines?symbol=BTCUSDT&interval=1h&startTime=", -1102),
        (SPOT + "/klines?symbol=BTCUSDT&interval=1h&what=1", -1104),
        (SPOT + "/exchangeInfo?symbol=NOPEUSDT", -1121),
        (SPOT + "/exchangeInfo?symbols=BTCUSDT", -1100),
        (SPOT + '/exchangeInfo?symbols=["NOPEUSDT"]', -1121),
        (UM + "/depth?symbol=BTCUSDT&limit=7", -4021),
        (SPOT + "/aggTrades?symbol=BTCUSDT&fromId=1&startTime=5", -1128),
    ],
)
def test_errors_are_the_exchanges(url: str, path: str, code: int) -> None:
    """A refused request returns 400 with the error code of the exchange."""
    answer = requests.get(url + path, timeout=30)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.json()["msg"]


def test_unknown_endpoint_is_404(url: str) -> None:
    assert requests.get(url + "/api/v3/nothing", timeout=30).status_code == 404


def test_exchange_info_tells_symbols_and_their_status() -> None:
    """All, one or several symbols can be requested; a delisted symbol has the status BREAK."""
    settings = {
        "now": NOW,
        "frozen": True,
        "symbols": ["BTCUSDT", {"symbol": "OLDUSDT", "delisted": "2024-06-01"}],
        "extra_symbols": 2,
    }
    with SandboxServer(SandboxConfig.model_validate(settings)) as server:
        url = server.url + "/api/v3/exchangeInfo"
        info = requests.get(url, timeout=30).json()
        assert {entry["symbol"]: entry["status"] for entry in info["symbols"]} == {
            "BTCUSDT": "TRADING",
            "OLDUSDT": "BREAK",
            "SYN00USDT": "TRADING",
            "SYN01USDT": "TRADING",
        }
        assert info["serverTime"] == ms(NOW)
        assert info["rateLimits"][0]["limit"] == 6000
        one = requests.get(url, params={"symbol": "BTCUSDT"}, timeout=30).json()["symbols"]
        assert {entry["filterType"]: entry for entry in one[0]["filters"]}["PRICE_FILTER"][
            "tickSize"
        ] == "0.01000000"
        several = requests.get(url, params={"symbols": '["SYN01USDT","BTCUSDT"]'}, timeout=30).json()[
            "symbols"
        ]
        assert [entry["symbol"] for entry in several] == ["SYN01USDT", "BTCUSDT"]


def test_trades_by_id_and_by_time_are_those_of_the_candle(url: str) -> None:
    """AggTrades of an hour are contiguous, add up to its candle, and are the same by id."""
    start = ms("2025-01-05T03:00")
    candle = klines(url, symbol="DOTUSDT", startTime=start, limit=1)[0]
    query: dict[str, str | int] = {
        "symbol": "DOTUSDT",
        "startTime": start,
        "endTime": start + HOUR_MS - 1,
        "limit": 1000,
    }
    trades = requests.get(f"{url}/api/v3/aggTrades", params=query, timeout=30).json()
    assert sum(trade["l"] - trade["f"] + 1 for trade in trades) == candle[8]
    assert sum(Decimal(trade["q"]) for trade in trades) == Decimal(candle[5])
    assert all(
        after["f"] == before["l"] + 1 and after["a"] == before["a"] + 1 for before, after in pairwise(trades)
    )
    assert (trades[0]["p"], trades[-1]["p"]) == (candle[1], candle[4])
    by_id = requests.get(
        f"{url}/api/v3/aggTrades?symbol=DOTUSDT&limit=10&fromId={trades[5]['a']}", timeout=30
    ).json()
    assert by_id == trades[5:15]
    latest = requests.get(f"{url}/api/v3/aggTrades", params="symbol=DOTUSDT&limit=7", timeout=30).json()
    assert len(latest) == 7
    assert latest[-1]["T"] <= ms(NOW)


@pytest.mark.parametrize("root", [SPOT, UM])
def test_depth_has_the_levels_asked_for(url: str, root: str) -> None:
    """The book has the requested levels around the last trade; futures add times."""
    book = requests.get(f"{url}{root}/depth", params="symbol=BTCUSDT&limit=100", timeout=30).json()
    assert len(book["bids"]) == len(book["asks"]) == 100
    assert float(book["bids"][0][0]) < float(book["asks"][0][0])
    assert ("T" in book) == (root == UM)


@pytest.mark.parametrize(
    ("path", "weight"),
    [
        ("/api/v3/ping", 1),
        ("/api/v3/time", 1),
        ("/api/v3/exchangeInfo", 20),
        ("/api/v3/klines?symbol=BTCUSDT&interval=1h", 2),
        ("/api/v3/depth?symbol=BTCUSDT", 5),
        ("/api/v3/depth?symbol=BTCUSDT&limit=500", 25),
        ("/api/v3/depth?symbol=BTCUSDT&limit=1000", 50),
        ("/api/v3/depth?symbol=BTCUSDT&limit=5000", 250),
        ("/api/v3/aggTrades?symbol=BTCUSDT", 4),
        ("/api/v3/depth?symbol=BTCUSDT&limit=100", 5),
        ("/api/v3/klines?symbol=BTCUSDT&interval=1h&limit=1", 2),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=99", 1),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=100", 2),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=499", 2),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=500", 5),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=1000", 5),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=1001", 10),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=50", 2),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=100", 5),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=1000", 20),
        ("/fapi/v1/depth?symbol=BTCUSDT", 10),
        ("/fapi/v1/aggTrades?symbol=BTCUSDT", 20),
        ("/fapi/v1/exchangeInfo", 1),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1h", 5),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=1500", 10),
    ],
)
def test_used_weight_grows_by_the_requests_weight(path: str, weight: int) -> None:
    """The header of the first response is the weight of the request."""
    with SandboxServer(SandboxConfig.model_validate({"now": NOW, "frozen": True})) as server:
        answer = requests.get(server.url + path, timeout=30)
        assert answer.headers["X-MBX-USED-WEIGHT-1M"] == answer.headers["x-mbx-used-weight"] == str(weight)


@pytest.mark.parametrize("market", list(Market))
def test_the_client_counts_what_the_exchange_counts(
    market: Market, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights of the client are the used weights of the sandbox."""
    counted: list[int] = []
    sent: list[int] = []

    def count(_: WeightGovernor, weight: int, __: float) -> float:
        counted.append(weight)
        return 0.0

    with (
        monkeypatch.context() as patch,
        SandboxServer(SandboxConfig.model_validate({"now": NOW, "frozen": True})) as server,
    ):
        patch.setattr(WeightGovernor, "wait_s", count)
        patch.setattr(WeightGovernor, "learn", lambda _, used, __: sent.append(used))
        limits = AddressLimits(tmp_path / "limits.json", RateLimits(), now_s=lambda: 0.0)
        client = RestClient(Http(HttpSettings()), server.url, market, RateLimits(), limits, now_s=lambda: 0.0)
        client.server_time_us()
        client.klines("BTCUSDT", Interval.H1, parse_time("2025-01-01"), parse_time("2025-01-02"))
        client.edge_klines("BTCUSDT", Interval.H1, first=True)
        for limit in (20, 100, 500, 1000, 5000):
            client.depth("BTCUSDT", limit)
        newest = json.loads(client.agg_trades("BTCUSDT", start_ms=ms(NOW) - 3_600_000, end_ms=ms(NOW)))[-1]
        client.agg_trades_from("BTCUSDT", newest["a"] + 1)
        client.listed_symbols()
        used = [after - before for before, after in pairwise([0, *sent])]
    assert used == counted


def test_over_budget_gives_429_and_going_on_gives_418() -> None:
    """Beyond the budget, requests get 429 with Retry-After; further requests get 418."""
    settings = {"now": NOW, "weight_budget": 3, "requests_until_ban": 2, "ban_s": 90}
    with SandboxServer(SandboxConfig.model_validate(settings)) as server:
        answers = [requests.get(server.url + "/api/v3/ping", timeout=30) for _ in range(9)]
    statuses = [answer.status_code for answer in answers]
    # A new minute may begin during the requests; the budget is then new, unless the address is banned.
    assert statuses[-1] == 418
    assert 429 in statuses
    assert answers[-1].json()["code"] == -1003
    assert int(answers[-1].headers["Retry-After"]) <= 90
    refused = answers[statuses.index(429)]
    assert refused.json()["msg"].startswith("Too many requests;")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


def test_limiter_counts_by_minute_and_bans_for_as_long_as_it_says() -> None:
    """A new minute has a new budget; a ban ends at its stated time."""
    limiter = WeightLimiter(10, AddressLimiter(requests_until_ban=2, ban_s=100))
    refusals = [limiter.admit(5, now).refusal for now in (60.0, 61.0, 62.0, 63.0, 64.0, 130.0, 163.9, 164.0)]
    assert [one and (one.status, one.wait_s) for one in refusals] == [
        None,
        None,
        (429, 58),
        (429, 57),
        (418, 100),
        (418, 34),
        (418, 1),
        None,
    ]
    assert WeightLimiter(10, AddressLimiter(requests_until_ban=2, ban_s=100)).admit(10, 0.0).used == 10


@pytest.mark.parametrize("status", [429, 418, 403])
@pytest.mark.parametrize("stated", list(EndLocation))
def test_refused_address_is_told_the_end_where_the_setting_says(status: int, stated: EndLocation) -> None:
    """REST and handshakes are refused, and requests during the refusal are counted."""
    with exchange() as box:
        box.control("limits", {"status": status, "seconds": 50, "stated": stated})
        answer = requests.get(box.url + "/api/v3/time", timeout=30)
        with pytest.raises(InvalidStatus) as refused:
            box.connect()
        handshake = refused.value.response
        counts = box.control("limits")["refused"]
    for headers, body in (
        (answer.headers, answer.text),
        (handshake.headers, (handshake.body or b"").decode()),
    ):
        assert headers.get("Retry-After") in ({"49", "50"} if stated is EndLocation.BOTH else {None})
        assert ("banned until 1" in body) is (status == 418 and stated is not EndLocation.NOWHERE)
    assert (answer.status_code, handshake.status_code, counts) == (status, status, {"rest": 1, "streams": 1})
    assert ("X-MBX-USED-WEIGHT-1M" in answer.headers) is (status != 403)


def test_handshakes_beyond_the_limit_of_attempts_are_refused() -> None:
    """Handshakes get 429 until the window moves on, REST does not; more attempts cause a ban."""
    limits = AddressLimiter(requests_until_ban=2, ban_s=100, attempts=2, window_s=30)
    refusals = [limits.count_request(HostGroup.STREAMS, now) for now in (0.0, 10.0, 11.0, 12.0)]
    assert [one and (one.status, one.wait_s) for one in refusals] == [None, None, (429, 19), (429, 18)]
    assert limits.count_request(HostGroup.REST, 12.0) is None
    assert [limits.count_request(HostGroup.STREAMS, now) for now in (30.0,)] == [None]
    banned = [limits.count_request(HostGroup.STREAMS, now) for now in (31.0, 32.0, 33.0)]
    assert [one and one.status for one in banned] == [429, 429, 418]
    assert (limits.count_request(HostGroup.REST, 34.0) or banned[0]) == limits.current_refusal(
        HostGroup.STREAMS, 34.0
    )
    assert (limits.attempts, limits.surplus) == (8, 2)


DOTS: dict[str, str | int] = {"symbol": "DOTUSDT", "limit": 1000}


def test_futures_trades_older_than_two_days_are_refused_by_time_and_by_id(url: str) -> None:
    """Older trades get -4166, newer trades are served, and spot has no window."""
    query: dict[str, str | int] = {**DOTS, "startTime": ms(NOW) - 47 * HOUR_MS, "limit": 1}
    newest = requests.get(f"{url}{UM}/aggTrades", params=query, timeout=30).json()[0]
    assert (
        requests.get(f"{url}{UM}/aggTrades", params={**DOTS, "fromId": newest["a"]}, timeout=30).json()[0]
        == newest
    )
    refused: list[dict[str, str | int]] = [
        {"startTime": ms(NOW) - 49 * HOUR_MS},
        {"fromId": newest["a"] - 5760 // 12},
    ]
    for old in refused:
        answer = requests.get(f"{url}{UM}/aggTrades", params={**DOTS, **old}, timeout=30)
        assert (answer.status_code, answer.json()) == (
            400,
            {"code": -4166, "msg": "Search window is restricted to recent 2 days only."},
        )
    assert (
        requests.get(
            f"{url}{SPOT}/aggTrades", params={**DOTS, "startTime": ms(NOW) - 49 * HOUR_MS}, timeout=30
        ).status_code
        == 200
    )


@pytest.mark.parametrize("root", [SPOT, UM])
@pytest.mark.parametrize("way", ["setting", "fault"])
def test_rest_may_be_behind_the_market(root: str, way: str) -> None:
    """Trades and candles are those of `lag_s` ago; a candle that has closed since is still unfinished."""
    settings: dict[str, Any] = {"now": NOW, "frozen": True}
    rule = {"fault": "rest_lag", "lag_s": 40}
    with SandboxServer(
        SandboxConfig.model_validate(
            {**settings, **({"rest_lag_s": 40} if way == "setting" else {"faults": [rule]})}
        )
    ) as late:
        trades = requests.get(f"{late.url}{root}/aggTrades?symbol=BTCUSDT", timeout=30).json()
        candle = klines(late.url, root=root, interval="1m", startTime=ms("2025-02-01T10:19"), limit=1)[0]
    with SandboxServer(SandboxConfig.model_validate(settings)) as prompt:
        last = requests.get(f"{prompt.url}{root}/aggTrades?symbol=BTCUSDT", timeout=30).json()[-1]
        whole = klines(prompt.url, root=root, interval="1m", startTime=ms("2025-02-01T10:19"), limit=1)[0]
    assert trades[-1]["T"] <= ms(NOW) - 40_000 < last["T"]
    assert candle[0] == whole[0]
    assert candle[8] < whole[8]


def test_futures_that_are_settled_are_listed_without_klines() -> None:
    """The status in exchangeInfo is SETTLING, and klines get -1122; spot serves klines."""
    suspension = {"symbol": "DOTUSDT", "start": "2025-01-20", "end": "2025-03-01", "status": "SETTLING"}
    with SandboxServer(
        SandboxConfig.model_validate({"now": NOW, "frozen": True, "suspensions": [suspension]})
    ) as server:
        listed = requests.get(f"{server.url}{UM}/exchangeInfo", timeout=30).json()["symbols"]
        answer = requests.get(f"{server.url}{UM}/klines?symbol=DOTUSDT&interval=1h", timeout=30)
        other = requests.get(f"{server.url}{UM}/klines?symbol=BTCUSDT&interval=1h", timeout=30)
    assert {one["symbol"]: one["status"] for one in listed}["DOTUSDT"] == "SETTLING"
    assert (answer.status_code, answer.json()) == (400, {"code": -1122, "msg": "Invalid symbol status."})
    assert other.status_code == 200
