"""Comparison of `docs/exchange.md` with the constants of the client and of the sandbox."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from capture_pipeline.binance import urls
from capture_pipeline.binance.archive.protocol import PUBLISHED_AFTER_US
from capture_pipeline.binance.http import failures
from capture_pipeline.binance.http import settings as limits
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.binance.periods import HOUR_US, MINUTE_US, SECOND_US, Interval
from capture_pipeline.binance.rest.client import PAGE_ROWS, UNKNOWN_SYMBOL
from capture_pipeline.binance.streams.names import (
    CONNECTION_LIFE_S,
    FIELDS,
    MAX_STREAMS,
    MAX_URL,
    PING_EVERY_S,
    StreamKind,
    kind_of,
    list_streams,
    route_of,
)
from capture_pipeline.binance.urls import (
    SPOT_DEPTH,
    UM_DEPTHS,
    Market,
    depth_limit,
    has_interval,
    request_weight,
)
from capture_pipeline.deployment.address_limits import WINDOW_US
from capture_pipeline.errors import (
    AccessDeniedError,
    BannedError,
    CaptureError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
)
from capture_pipeline.klines.ingest.rest_fill import KLINE_MARGIN_US
from capture_pipeline.recorder.preflight.observations import FrameRecord
from capture_pipeline.recorder.preflight.record import ExchangeRecord
from capture_pipeline.settings.models import Endpoints, Settings
from capture_pipeline.settings.sessions import Recording
from capture_pipeline_tests.support.pages import ExchangePage, Row, codes
from sandbox_exchange import constants
from sandbox_exchange.archive import s3_listing
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.rest.http import compute_weight
from sandbox_exchange.server.server import Sandbox, SandboxServer
from sandbox_exchange.streams import feed

PACKAGE = Path(urls.__file__).parents[1]
SANDBOX = Path(constants.__file__).parent
PAGE = ExchangePage()
REQUESTS = {(Market(row["market"]), row["request"].strip("`")): row for row in PAGE.requests}
USED = {key: row for key, row in REQUESTS.items() if row["rows asked"] != "not used"}
KINDS_OF_ERROR: dict[str, type[CaptureError]] = {
    "waits": RateLimitedError,
    "stops": BannedError,
    "tries again": ServerError,
    "no such symbol": RequestRefusedError,
    "final": RequestRefusedError,
}
CONFIG = SandboxConfig()


def by_market(row: Row) -> dict[Market, str]:
    return {Market.SPOT: row["spot"], Market.UM: row["um"]}


LIMITS_OF_CLIENT: dict[str, dict[Market, object]] = {
    "request weight a minute": {market: market.weight_per_minute for market in Market},
    f"connection attempts in {WINDOW_US // MINUTE_US} minutes": dict.fromkeys(
        Market, limits.RateLimits().connections_per_5_minutes
    ),
    "streams a connection": dict.fromkeys(Market, MAX_STREAMS),
    "characters of a stream address": dict.fromkeys(Market, MAX_URL),
    "seconds of a connection's life": dict.fromkeys(Market, CONNECTION_LIFE_S),
    "seconds between pings": dict(PING_EVERY_S),
    "levels of a depth request": {
        Market.SPOT: f"1 to {SPOT_DEPTH}",
        Market.UM: ", ".join(map(str, UM_DEPTHS)),
    },
    "seconds after the end of a kline before REST is requested": dict.fromkeys(
        Market, KLINE_MARGIN_US // SECOND_US
    ),
    "hours until daily files are expected": dict.fromkeys(Market, PUBLISHED_AFTER_US // HOUR_US),
}
LIMITS_OF_SANDBOX: dict[str, dict[Market, object]] = {
    "request weight a minute": {Market.SPOT: CONFIG.weight_budget, Market.UM: CONFIG.um_weight_budget},
    f"connection attempts in {CONFIG.connection_window_s / 60:g} minutes": dict.fromkeys(
        Market, CONFIG.connection_attempts
    ),
    "streams a connection": dict.fromkeys(Market, constants.MAX_STREAMS),
    "characters of a stream address": dict.fromkeys(Market, constants.MAX_TARGET_LENGTH),
    "messages a second to the exchange": dict(constants.MESSAGES_A_SECOND),
    "seconds of a connection's life": dict.fromkeys(Market, int(CONFIG.connection_life_s)),
    "seconds between pings": {Market.SPOT: int(CONFIG.ping_every_s), Market.UM: int(CONFIG.um_ping_every_s)},
    "seconds for a pong": {Market.SPOT: int(CONFIG.pong_within_s), Market.UM: int(CONFIG.um_pong_within_s)},
    "levels of a depth request": {
        Market.SPOT: f"1 to {constants.MAX_ROWS[Market.SPOT]['depth']}",
        Market.UM: ", ".join(map(str, constants.UM_DEPTHS)),
    },
    "hours that aggTrades reach back": {
        Market.SPOT: "unlimited",
        Market.UM: constants.UM_REACH_US // HOUR_US,
    },
    "hours until daily files are expected": dict.fromkeys(Market, int(CONFIG.daily_delay_hours)),
    "hours until monthly files": dict.fromkeys(Market, int(CONFIG.monthly_delay_hours)),
    "keys of a page of the listing": dict.fromkeys(Market, s3_listing._MAX_KEYS),
}


@pytest.mark.parametrize(("side", "numbers"), [("client", LIMITS_OF_CLIENT), ("sandbox", LIMITS_OF_SANDBOX)])
def test_each_side_has_the_limits_of_the_page(side: str, numbers: dict[str, dict[Market, object]]) -> None:
    """The numbers are those of the page, and no limit is missing or added."""
    told = {row["limit"]: by_market(row) for row in PAGE.limits if row[side] == "yes"}
    assert told == {
        name: {market: str(value) for market, value in values.items()} for name, values in numbers.items()
    }


def test_the_client_keeps_within_the_limits() -> None:
    """The test covers the defaults of the settings and the requests for depth."""
    assert Recording().renew_hours * 3600 < CONNECTION_LIFE_S
    assert {depth_limit(Market.UM, levels) for levels in range(1, 5001)} == set(UM_DEPTHS)
    assert {depth_limit(Market.SPOT, levels) for levels in range(1, 6000)} == set(range(1, SPOT_DEPTH + 1))
    assert limits.RateLimits().use_percent <= 100


def test_hosts_are_those_of_the_page() -> None:
    """The test covers the defaults of the settings and the addresses in the sandbox."""
    assert {
        row["setting"].strip("`"): row["host"].strip("`") for row in PAGE.hosts
    } == Endpoints().model_dump(exclude={"extra_hosts"})
    paths = {row["setting"].strip("`"): row["at the sandbox"].strip("`") for row in PAGE.hosts}
    at = "//127.0.0.1:1"
    for market in Market:
        settings = Settings.model_validate(
            {"venue": "sandbox", "sandbox_url": f"http:{at}", "market": market}
        )
        used = {
            "archive": settings.archive_url,
            "listing": settings.listing_url,
            f"rest_{market}": settings.rest_url,
        }
        used[f"stream_{market}"] = settings.stream_url
        assert {name: url.partition(at)[2] or "/" for name, url in used.items()} == {
            name: paths[name] for name in used
        }
    assert paths["listing"] == f"/{constants.BUCKET}"
    assert paths["stream_um"].startswith(f"/{constants.FUTURES_HOST}/")


def weights(row: Row) -> dict[int, int]:
    """Return the expected weight of each value of `limit` from 1 to the largest."""
    most = 1 if row["most rows"] == "none" else int(row["most rows"])
    steps = (
        [tuple(map(int, step.split(": "))) for step in row["weight"].split(", ")]
        if ":" in row["weight"]
        else [(most, int(row["weight"]))]
    )
    assert steps[-1][0] == most
    return {limit: next(weight for bound, weight in steps if limit <= bound) for limit in range(1, most + 1)}


@pytest.mark.parametrize("key", REQUESTS, ids=lambda key: f"{key[0]} {key[1]}")
def test_weights_are_those_of_the_page(key: tuple[Market, str]) -> None:
    """The test covers every value of `limit`."""
    (market, path), expected = key, weights(REQUESTS[key])
    endpoint = path.rpartition("/")[2]
    assert {limit: compute_weight(market, endpoint, {"limit": str(limit)}) for limit in expected} == expected
    if key in USED:
        assert {limit: request_weight(market, endpoint, limit) for limit in expected} == expected


def test_the_sandbox_serves_the_requests_of_the_page_and_no_others() -> None:
    """Each market has its own endpoints and limits of rows."""
    box = Sandbox(SandboxConfig())
    try:
        for market in Market:
            [route] = box._rest(market).routes()
            root = route.path.removesuffix("/{name}")
            served = {f"{root}/{name}" for name in box._rest(market)._endpoints}
            assert served == {path for of, path in REQUESTS if of is market}
            most = {
                path.rpartition("/")[2]: row["most rows"]
                for (of, path), row in REQUESTS.items()
                if of is market
            }
            assert {name: str(rows) for name, rows in constants.MAX_ROWS[market].items()} == {
                n: m for n, m in most.items() if m != "none"
            }
            assert constants.WEIGHTS[market].keys() == most.keys()
    finally:
        box.close()


def test_the_client_knows_the_requests_of_the_page_and_no_others() -> None:
    """The test covers the weights, the page size, and the only function that joins root and endpoint."""
    for market in Market:
        assert {f"{market.rest_root}/{name}" for name in urls._WEIGHTS[market]} == {
            path for of, path in USED if of is market
        }
    asked = {row["rows asked"] for row in USED.values()} - {"none", "any"}
    assert asked == {f"1, {PAGE_ROWS}", str(PAGE_ROWS)}
    users = {path.name for path in client_files() if ".rest_root" in path.read_text()}
    assert users == {"client.py"}


def test_no_market_offers_an_interval_that_it_lacks() -> None:
    """Client and sandbox are tested separately."""
    for market in Market:
        assert [step for step in Interval if has_interval(market, step)] == list(constants.INTERVALS[market])
    assert set(Interval) - set(constants.INTERVALS[Market.UM]) == {Interval.S1}


def test_streams_are_those_of_the_page() -> None:
    """The test covers the streams of sessions, their fields and endpoints, and the frames of the sandbox."""
    rows = {(Market(row["market"]), row["stream"].strip("`")): row for row in PAGE.streams}
    for market in Market:
        recorded = {
            name.replace("<symbol>", "btcusdt")
            for (of, name), row in rows.items()
            if of is market and row["use"] == "recorded"
        }
        assert set(list_streams(["BTCUSDT"], market)) == recorded
        topics = {*map(str, feed._KINDS[market]), *feed._DEPTH_STEPS[market]}
        assert {f"<symbol>@{topic}" for topic in topics} == {name for of, name in rows if of is market}
    known = {
        (market, kind_of(name)): tuple(codes(row["fields"]))
        for (market, name), row in rows.items()
        if row["use"] != "none"
    }
    assert known == FIELDS
    endpoints = {name: row["endpoint"] for (market, name), row in rows.items() if market is Market.UM}
    assert {name: str(route_of(name)) for name in endpoints} == endpoints
    assert {name: str(constants.route_of(name)) for name in endpoints} == endpoints
    assert constants.SHUTDOWN_STREAM == "!serverShutdown"
    assert kind_of(constants.SHUTDOWN_STREAM) is StreamKind.SHUTDOWN


def client_files() -> list[Path]:
    return list(PACKAGE.rglob("*.py"))


def error_codes(files: Iterator[Path] | list[Path]) -> set[int]:
    """Return numbers from -9999 to -1000 in source text."""
    found = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.UnaryOp)
                and isinstance(node.op, ast.USub)
                and isinstance(node.operand, ast.Constant)
            ):
                value = node.operand.value
                if isinstance(value, int) and 1000 <= value <= 9999:
                    found.add(-value)
    return found


def test_error_codes_are_those_of_the_page() -> None:
    """The source of each side contains exactly the codes that the page lists for it."""
    told = {int(row["code"]): row for row in PAGE.errors if row["code"] != "none"}
    interpreted = {
        code for code, row in told.items() if row["the client"] in {"tries again", "no such symbol"}
    }
    assert error_codes(client_files()) == interpreted
    assert {
        code for code, row in told.items() if row["the client"] == "tries again"
    } == failures._TRANSIENT_CODES
    assert {code for code, row in told.items() if row["the client"] == "no such symbol"} == UNKNOWN_SYMBOL
    assert error_codes(list(SANDBOX.rglob("*.py"))) == {
        code for code, row in told.items() if row["the sandbox"] == "itself"
    }


@pytest.mark.parametrize("row", PAGE.errors, ids=lambda row: f"{row['status']} {row['code']}")
def test_the_client_sorts_each_error_as_the_page_says(row: Row) -> None:
    """The error is classified by the status and code of a real answer."""
    code = {} if row["code"] == "none" else {"code": int(row["code"])}
    fault = f"status_{row['status']}"
    with SandboxServer(
        SandboxConfig.model_validate({"frozen": True, "faults": [{"fault": fault, **code}]})
    ) as server:
        with pytest.raises(CaptureError) as caught:
            Http(limits.Http()).get(f"{server.url}/api/v3/time", max_bytes=1000)
        assert server.sandbox.faults.count_injected(fault) == 1
    kind = AccessDeniedError if row["status"] in {"403", "451"} else KINDS_OF_ERROR[row["the client"]]
    assert type(caught.value) is kind
    if isinstance(caught.value, RequestRefusedError):
        assert (caught.value.code in UNKNOWN_SYMBOL) == (row["the client"] == "no such symbol")


def test_the_sandbox_takes_no_constant_from_the_client() -> None:
    """Only the arithmetic of times and a list of shared names may be imported."""
    shared = {"periods", "klines"}
    rules = {
        "route_of",
        "request_weight",
        "depth_limit",
        "has_interval",
        "list_streams",
        "combined_url",
        "Route",
    }
    attributes = {"rest_root", "archive_root", "weight_per_minute"}
    taken = []
    for path in SANDBOX.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if isinstance(node, ast.ImportFrom) and module.startswith("capture_pipeline.binance"):
                names = {alias.name for alias in node.names}
                is_shared = module.rpartition(".")[2] in shared
                wrong = names & rules | {name for name in names if name.isupper() and not is_shared}
                taken += [f"{path.name}: {name}" for name in wrong]
            if isinstance(node, ast.Attribute) and node.attr in attributes:
                taken.append(f"{path.name}: {node.attr}")
    assert taken == []


def test_every_part_of_the_record_of_a_preflight_answers_a_question(tmp_path: Path) -> None:
    """Each part that the page names exists."""
    record = ExchangeRecord(Settings.model_validate({"storage": {"root": tmp_path}}), ["BTCUSDT"])
    about = {"time", "venue", "market", "symbols"}
    assert set(record._document(0)) - about == {
        name for row in PAGE.unknown for name in codes(row["part of the record"])
    }
    assert FrameRecord(Market.UM, ["btcusdt@trade"]).streams["btcusdt@trade"].expected
