"""Comparison of `docs/exchange.md` with the traffic of the client and the sandbox.

The traffic consists of requests, answers, frames and files.
"""

from __future__ import annotations

import inspect
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import requests

from capture_pipeline.binance import urls
from capture_pipeline.binance.archive.client import ArchiveClient
from capture_pipeline.binance.archive.frame_cache import read_zip
from capture_pipeline.binance.archive.protocol import parse_checksum
from capture_pipeline.binance.http.settings import Http as HttpSettings
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.binance.periods import Interval, Month
from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.binance.streams.messages import decode_agg_trades
from capture_pipeline.binance.streams.names import FIELDS, combined_url, kind_of, split_by_route
from capture_pipeline.binance.urls import ArchiveFile, Granularity, Market, TradesFile
from capture_pipeline.golden.proof.published_trades import parse_published_trades
from capture_pipeline.recorder.ordering.message_ids import ids_of
from capture_pipeline.recorder.preflight.observations import FrameRecord
from capture_pipeline.recorder.preflight.record import ExchangeRecord
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment
from capture_pipeline_tests.support.exchange.streams import BUSY, NOW_US, exchange, receive
from capture_pipeline_tests.support.pages import ExchangePage, Row, codes

PAGE = ExchangePage()
SYMBOL, LISTED = "BTCUSDT", "2024-12-01"
QUIET = {"symbol": SYMBOL, "trades_per_day": 24}
START_MS = NOW_US // 1000 - 60_000
CALLS: dict[str, list[Callable[[RestClient], object]]] = {
    "server_time_us": [lambda rest: rest.server_time_us()],
    "klines": [lambda rest: rest.klines(SYMBOL, Interval.M1, NOW_US - 60_000_000, NOW_US)],
    "edge_klines": [
        lambda rest: rest.edge_klines(SYMBOL, Interval.M1, first=True),
        lambda rest: rest.edge_klines(SYMBOL, Interval.M1, first=False),
    ],
    "depth": [lambda rest: rest.depth(SYMBOL, 1), lambda rest: rest.depth(SYMBOL, 5000)],
    "agg_trades": [lambda rest: rest.agg_trades(SYMBOL, start_ms=START_MS, end_ms=START_MS + 1000)],
    "agg_trades_from": [lambda rest: rest.agg_trades_from(SYMBOL, 10**12)],
    "symbol_status": [lambda rest: rest.symbol_status(SYMBOL)],
    "symbol_statuses": [lambda rest: rest.symbol_statuses()],
    "listed_symbols": [lambda rest: rest.listed_symbols()],
    "unknown_symbols": [
        lambda rest: rest.unknown_symbols([SYMBOL]),
        lambda rest: rest.unknown_symbols(["NOSUCHUSDT"]),
    ],
}
"""Every public method of the client that sends a request, with each of its forms.

A new method belongs here.
"""
SEND_NOTHING = {"klines_url", "agg_trades_pause_s"}


@pytest.fixture(scope="module", params=list(Market), ids=str)
def sandbox(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SandboxDeployment]:
    """Start an exchange with a stopped clock and files since the end of 2024, and a client of one market."""
    with run_sandbox_deployment(
        tmp_path_factory.mktemp("exchange"),
        {"symbols": [QUIET], "listed": LISTED},
        CAPTURE_MARKET=str(request.param),
    ) as made:
        yield made


def rows_of(rows: list[Row], market: Market) -> list[Row]:
    return [row for row in rows if row["market"] == market]


def test_every_request_of_the_client_is_on_the_page(sandbox: SandboxDeployment) -> None:
    """The path and the parameters equal those of the page.

    Each form of a request is sent, and the exchange counts the weight that the page states.
    """
    methods = {
        name for name, _ in inspect.getmembers(RestClient, inspect.isfunction) if not name.startswith("_")
    }
    assert methods == CALLS.keys() | SEND_NOTHING
    settings = sandbox.deployment.settings
    sandbox.forget_requests()
    record = ExchangeRecord(settings, [SYMBOL])
    record.rest.server_time_us()  # a weight is a difference: the first request of all has none
    for call in (call for calls in CALLS.values() for call in calls):
        call(record.rest)
    sent: dict[str, set[str]] = {}
    limits: dict[str, set[int]] = {}
    for entry in sandbox.requests():
        query = parse_qs(entry["query"])
        sent.setdefault(entry["path"], set()).update(query)
        assert entry["status"] == 200 or (entry["status"] == 400 and "NOSUCHUSDT" in entry["query"]), entry
        limits.setdefault(entry["path"], set()).update(int(value) for value in query.get("limit", []))
    rows = {
        row["request"].strip("`"): row
        for row in rows_of(PAGE.requests, settings.market)
        if row["rows asked"] != "not used"
    }
    assert sent == {path: set(codes(row["parameters"])) for path, row in rows.items()}
    for path, row in rows.items():
        assert row["rows asked"] == "any" or limits[path] == {int(rows) for rows in codes(row["rows asked"])}
        assert not limits[path] or max(limits[path]) <= int(row["most rows"])
    counted = record._document(0)["requests"]
    assert len(counted) >= len(rows)
    for name, seen in counted.items():
        assert seen["weights_seen"].keys() <= {str(seen["weight_expected"])}, name
    # A minute may end in between: the first weight after it is unknown.
    assert sum(bool(seen["weights_seen"]) for seen in counted.values()) >= len(counted) - 1


def test_answers_have_the_fields_of_the_page(sandbox: SandboxDeployment) -> None:
    """The fields are those that the client reads; in a list, those of one row."""
    market = sandbox.deployment.settings.market
    ask = {"symbol": SYMBOL, "interval": "1m", "limit": "10"}
    for row in rows_of(PAGE.requests, market):
        names = [*codes(row["parameters"])]
        params = {
            name: ask[name] for name in names if name in ask and not row["request"].endswith("exchangeInfo`")
        }
        answer = requests.get(sandbox.url + row["request"].strip("`"), params=params, timeout=30)
        assert answer.status_code == 200, answer.text
        value = answer.json()[0] if isinstance(answer.json(), list) else answer.json()
        if row["fields"] == "12 values":
            assert len(value) == 12
        else:
            assert set(codes(row["fields"])) <= set(value)
        if row["request"].endswith("aggTrades`"):
            only = json.dumps([{name: value[name] for name in codes(row["fields"])}]).encode()
            assert decode_agg_trades(only)[0].agg_id == value["a"]


def ids_told(cell: str, data: dict[str, Any]) -> tuple[int, int] | None:
    """Return the first and the last id of a message, as the cell of the page names their fields."""
    if cell == "none":
        return None
    first, _, last = cell.replace("`", "").partition(" to ")
    name, _, more = first.partition(" + ")
    return data[name] + int(more or 0), data[last or name]


@pytest.mark.parametrize("row", PAGE.streams, ids=lambda row: f"{row['market']} {row['stream']}")
def test_frames_have_the_form_of_the_page(row: Row) -> None:
    """The fields have the order of the page, for the endpoint that the client selects.

    The client reads the ids that the page names.
    """
    market, stream = Market(row["market"]), row["stream"].strip("`").replace("<symbol>", "btcusdt")
    base = "/fstream/{route}" if market is Market.UM else ""
    [path] = split_by_route(combined_url(base, [stream]))
    assert market is Market.SPOT or f"/{row['endpoint']}/" in path
    with exchange(symbols=[BUSY]) as box, box.connect(path) as client:
        box.advance(20)
        frames = receive(client, 15)
    record = FrameRecord(market, [stream])
    for frame in frames:
        envelope = json.loads(frame)
        assert list(envelope) == ["stream", "data"]
        assert list(envelope["data"]) == codes(row["fields"])
        data = frame[frame.index(b'"data":') + 7 : -1]
        if row["use"] != "none":
            placed = ids_of(kind_of(stream), data)
            assert placed is not None
            assert (placed.first, placed.last) == ids_told(row["ids"], envelope["data"])
        record.take(frame)
    unknown = set() if (market, kind_of(stream)) in FIELDS else set(codes(row["fields"]))
    assert record.streams[stream].document["unknown_fields"].keys() == unknown
    assert (record.streams[stream].messages, record.others) == (15, [])


def path_told(row: Row, granularity: str, period: object) -> str:
    path = row["path"].strip("`").replace("<granularity>", granularity).replace("<period>", str(period))
    return path.replace("<symbol>", SYMBOL).replace("<interval>", "1h")


def file_of(row: Row, period: Month | date) -> ArchiveFile | TradesFile:
    market, kind = (
        Market(row["market"]),
        row["path"].split("/")[-3 if "<interval>" not in row["path"] else -4],
    )
    return (
        ArchiveFile(market, SYMBOL, Interval.H1, period)
        if kind == "klines"
        else TradesFile(market, SYMBOL, period, kind)
    )


PERIODS = [("monthly", Month(2024, 12)), ("daily", date(2024, 12, 31)), ("daily", date(2025, 1, 1))]


@pytest.mark.parametrize(("granularity", "period"), PERIODS)
def test_files_have_the_paths_and_the_form_of_the_page(
    sandbox: SandboxDeployment, granularity: str, period: Month | date
) -> None:
    """Client, archive, bucket and listing use the paths of the page, and the client reads the files."""
    settings = sandbox.deployment.settings
    client = ArchiveClient(Http(HttpSettings()), settings.archive_url, settings.listing_url)
    rows = rows_of(PAGE.files, settings.market)
    assert len(rows) == 3
    for row in rows:
        path, file = path_told(row, granularity, period), file_of(row, period)
        assert file.path == path
        assert path in {found.key for found in client.listing(path.rpartition("/")[0] + "/")}
        body, bucket = (
            requests.get(f"{url}/{path}", timeout=60) for url in (settings.archive_url, settings.listing_url)
        )
        assert body.status_code == bucket.status_code == 200
        assert body.content == bucket.content
        digest = requests.get(f"{settings.archive_url}/{path}.CHECKSUM", timeout=60).text
        assert len(parse_checksum(digest, file.name)) == 64
        check_csv(row, body.content, file, is_new=str(period) >= "2025")


def check_csv(row: Row, content: bytes, file: ArchiveFile | TradesFile, *, is_new: bool) -> None:
    """Compare columns, header and unit, and read the file with the reader of the client."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        head, *lines = archive.read(f"{file.stem}.csv").decode().splitlines()
    assert {len(line.split(",")) for line in [head, *lines]} == {int(row["columns"])}
    assert head[0].isalpha() == (row["header"] == "yes")
    micro = {"ms": False, "ms until 2024, µs from 2025": is_new}[row["unit"]]
    times = [cell for cell in lines[-1].split(",") if len(cell) in {13, 16} and cell.isdigit()]
    assert {len(cell) for cell in times} == {16 if micro else 13}
    if isinstance(file, ArchiveFile):
        assert read_zip(content, file.stem, 1 << 30, file.bounds).height > 0
    else:
        assert parse_published_trades(content, file.stem, 1 << 30, file.bounds).height > 0


def test_every_file_of_the_client_is_on_the_page() -> None:
    """The client knows only the two kinds of files that the other tests compare with the page."""
    assert set(urls._PeriodFile.__subclasses__()) == {ArchiveFile, TradesFile}
    assert {str(kind) for kind in Granularity} == {granularity for granularity, _ in PERIODS}


def test_a_listing_is_asked_for_as_the_page_says(tmp_path: Path) -> None:
    """The second request has a `marker`; a page has a thousand keys."""
    with run_sandbox_deployment(tmp_path, {"symbols": [QUIET], "listed": "2023-09-15"}) as made:
        settings = made.deployment.settings
        client = ArchiveClient(Http(HttpSettings()), settings.archive_url, settings.listing_url)
        listed = [found.key for found in client.listing("data/spot/daily/trades/BTCUSDT/")]
        asked = [parse_qs(entry["query"], keep_blank_values=True) for entry in made.requests()]
    assert [query.keys() for query in asked] == [{"prefix", "delimiter"}, {"prefix", "delimiter", "marker"}]
    assert all(one < other for one, other in pairwise(listed))
    assert len(listed) > 1000
