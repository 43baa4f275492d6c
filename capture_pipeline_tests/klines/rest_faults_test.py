"""Faults of REST: sound rows, one clear error, or no request until a ban ends."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from capture_pipeline.binance.http.pauses import HostGroup
from capture_pipeline.binance.http.settings import RateLimits
from capture_pipeline.binance.http.transport import Http
from capture_pipeline.binance.periods import HOUR_US, Month, parse_time
from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.binance.rest.limiter import WeightGovernor
from capture_pipeline.binance.urls import Market
from capture_pipeline.deployment.address_limits import AddressLimits
from capture_pipeline.errors import (
    AccessDeniedError,
    BannedError,
    CaptureError,
    MalformedDataError,
    NetworkError,
    ProtocolViolationError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
)
from capture_pipeline.klines.bars import build_bars
from capture_pipeline.klines.gaps import find_gaps
from capture_pipeline.klines.ingest.archives import fetch_archives
from capture_pipeline.klines.ingest.rest_fill import TopupResult, fill_from_rest
from capture_pipeline.klines.pending_work import find_fillable
from capture_pipeline.lake.paths import Partition
from capture_pipeline.tables.klines.bars import VALUE_COLUMNS
from capture_pipeline_tests.support.deployment import (
    NOW,
    SHORT_READ_TIMEOUT,
    SandboxDeployment,
    run_sandbox_deployment,
)
from capture_pipeline_tests.support.exchange.streams import until

KLINES = {"match": {"path": "/api/v3/klines", "query": {"limit": "1000"}}}
TAIL = 10
"""Finished hours of 2025-02-20 that no archive file has at 10:30."""


def february(sandbox: SandboxDeployment) -> Partition:
    return sandbox.deployment.partition("BTCUSDT", Month(2025, 2))


def fill(sandbox: SandboxDeployment, **environment: str) -> TopupResult:
    deployment = sandbox.reopened(**environment)
    now_us = deployment.rest.server_time_us()
    fetch_archives(deployment, february(sandbox), now_us)
    return fill_from_rest(deployment, february(sandbox), now_us)


def bars(sandbox: SandboxDeployment) -> pl.DataFrame:
    build_bars(sandbox.deployment, february(sandbox))
    return pl.read_parquet(sandbox.deployment.lake.bars(february(sandbox)), hive_partitioning=False)


def test_the_open_month_is_filled_up_to_the_last_finished_candle(sandbox: SandboxDeployment) -> None:
    """Daily files until yesterday, REST since midnight, without the open kline of 10:00.

    The answer is stored as sent.
    """
    result = fill(sandbox)
    assert (result.pages, result.rows, result.still_missing) == (1, TAIL, 0)
    table = bars(sandbox)
    assert table["open_time_us"][-1] == parse_time("2025-02-20T09:00:00Z")
    assert table.group_by("source").len().sort("source").rows() == [("daily", 19 * 24), ("rest", TAIL)]
    assert all(sandbox.deployment.lake.resolve(page.path).is_file() for page in result.manifest.pages)


def test_a_second_top_up_asks_only_for_what_is_new(sandbox: SandboxDeployment) -> None:
    """One more kline is closed an hour later."""
    fill(sandbox)
    sandbox.clock(advance_s=3600)
    sandbox.forget_requests()
    assert fill(sandbox).rows == 1
    asked = [
        entry["query"]
        for entry in sandbox.requests()
        if entry["path"] == "/api/v3/klines" and "limit=1000" in entry["query"]
    ]
    assert f"startTime={parse_time('2025-02-20T10:00:00Z') // 1000}" in asked[0]


def test_rows_of_rest_are_those_of_the_archive(sandbox: SandboxDeployment) -> None:
    """The same month from REST and from the archive has equal values."""
    fill(sandbox)
    by_archive = bars(sandbox).filter(pl.col("source") == "daily")
    other = SandboxDeployment(sandbox.url, sandbox.root.with_name("rest"))
    now_us = other.deployment.rest.server_time_us()
    fill_from_rest(other.deployment, february(other), now_us)
    by_rest = bars(other).head(by_archive.height)
    assert by_rest.select("open_time_us", *VALUE_COLUMNS).equals(
        by_archive.select("open_time_us", *VALUE_COLUMNS)
    )
    assert set(by_rest["source"]) == {"rest"}


def test_a_month_of_minutes_takes_several_pages(sandbox: SandboxDeployment) -> None:
    """A page has a thousand rows, and the next one starts at its end."""
    minutes = SandboxDeployment(sandbox.url, sandbox.root, CAPTURE_INTERVAL="1m")
    now_us = minutes.deployment.rest.server_time_us()
    part = minutes.deployment.partition("BTCUSDT", Month(2025, 2))
    result = fill_from_rest(minutes.deployment, part, now_us)
    # The minute that has just ended waits for the margin.
    assert result.rows == 19 * 1440 + 629
    pages = result.manifest.pages
    assert all(page.rows == 1000 for page in pages[:27])
    assert [page.asked_start_us for page in pages[1:]] == [page.answered_end_us for page in pages[:-1]]


def test_a_short_page_is_followed_by_the_rest_of_it(sandbox: SandboxDeployment) -> None:
    """A page with fewer rows than requested is not complete."""
    sandbox.faults({**KLINES, "fault": "short_page", "rows": 3})
    result = fill(sandbox)
    assert sandbox.injected()
    assert (result.rows, result.still_missing) == (TAIL, 0)


@pytest.mark.parametrize("fault", ["repeated_page", "standing_page"])
def test_a_page_that_does_not_advance_is_an_error(fault: str, sandbox: SandboxDeployment) -> None:
    """The page is not used, and not requested again in the same run."""
    sandbox.faults({**KLINES, "fault": fault, "times": "always"})
    with pytest.raises(ProtocolViolationError, match="which were not requested"):
        fill(sandbox)
    assert sandbox.injected() == 1


@pytest.mark.parametrize("value", ["missing", "nan", "number", "null", "string_time"])
def test_a_row_that_is_no_kline_is_an_error_with_its_place(value: str, sandbox: SandboxDeployment) -> None:
    """The next run sends the request again."""
    sandbox.faults({**KLINES, "fault": "rest_bad_row", "value": value})
    with pytest.raises(MalformedDataError, match="klines"):
        fill(sandbox)
    assert fill(sandbox).still_missing == 0


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"fault": "bad_json"}, MalformedDataError),
        ({"fault": "html_200"}, MalformedDataError),
        ({"fault": "status_403"}, AccessDeniedError),
        ({"fault": "status_451"}, AccessDeniedError),
        ({"fault": "status_500", "times": "always"}, ServerError),
        ({"fault": "reset", "times": "always"}, NetworkError),
        ({"fault": "timeout", "stall_s": 5, "times": "always"}, NetworkError),
        ({"fault": "truncated_body", "times": "always"}, NetworkError),
    ],
    ids=lambda value: value["fault"] if isinstance(value, dict) else "",
)
def test_a_lasting_failure_is_one_error(
    rule: dict[str, Any], kind: type[CaptureError], sandbox: SandboxDeployment
) -> None:
    """The error is one line with the address."""
    sandbox.faults({**KLINES, **rule})
    with pytest.raises(kind) as caught:
        fill(sandbox, **(SHORT_READ_TIMEOUT if rule["fault"] == "timeout" else {}))
    assert "klines" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", ["status_500", "reset", "truncated_body"])
def test_a_passing_failure_is_repeated(fault: str, sandbox: SandboxDeployment) -> None:
    """The failure only costs a retry."""
    sandbox.faults({**KLINES, "fault": fault, "times": 2})
    assert fill(sandbox).still_missing == 0
    assert sandbox.injected() == 2


@pytest.mark.parametrize("code", [-1000, -1001, -1006, -1007, -1008, -1016])
def test_a_code_of_a_passing_failure_is_repeated_in_a_400(code: int, sandbox: SandboxDeployment) -> None:
    """The exchange recommends a retry for these codes and does not document their HTTP status."""
    sandbox.faults({**KLINES, "fault": "status_400", "code": code, "times": 2})
    assert fill(sandbox).still_missing == 0
    assert sandbox.injected() == 2


def test_408_is_repeated(sandbox: SandboxDeployment) -> None:
    """USD-M futures send it if their backend does not answer in time."""
    sandbox.faults({**KLINES, "fault": "status_408", "times": 2})
    assert fill(sandbox).still_missing == 0
    assert sandbox.injected() == 2


@pytest.mark.parametrize("code", [-1020, -1100, -1120, -1128, -1130])
def test_a_code_about_the_request_is_not_repeated(code: int, sandbox: SandboxDeployment) -> None:
    """The same request would be refused again."""
    sandbox.faults({**KLINES, "fault": "status_400", "code": code, "times": "always"})
    with pytest.raises(RequestRefusedError, match=str(code)):
        fill(sandbox)
    assert sandbox.injected() == 1


def test_candle_is_accepted_some_seconds_after_its_end(tmp_path: Path) -> None:
    """REST is five seconds late.

    Three seconds after the end of the hour, the kline is still open and not requested.
    """
    with run_sandbox_deployment(tmp_path / "d", {"now": "2025-02-20T10:00:03Z", "rest_lag_s": 5}) as sandbox:
        assert (fill(sandbox).rows, set(bars(sandbox)["open_time_us"].tail(1))) == (
            9,
            {parse_time("2025-02-20T08:00:00Z")},
        )
        assert (
            find_gaps(sandbox.deployment, february(sandbox), parse_time("2025-02-20T10:00:03Z")).missing == 0
        )
        sandbox.clock(now="2025-02-20T10:00:11Z")
        assert fill(sandbox).rows == 1
        table = bars(sandbox)
        sandbox.clock(now="2025-02-22T06:00:00Z")
        fetch_archives(sandbox.deployment, february(sandbox), sandbox.deployment.rest.server_time_us())
        published = bars(sandbox).filter(pl.col("source") == "daily")
    newest = table.tail(1)
    assert (newest["open_time_us"][0], newest["source"][0]) == (parse_time("2025-02-20T09:00:00Z"), "rest")
    later = published.filter(pl.col("open_time_us") == newest["open_time_us"][0])
    assert later.select(VALUE_COLUMNS).equals(newest.select(VALUE_COLUMNS))


def test_symbol_that_is_being_settled_is_served_by_the_archive_alone(tmp_path: Path) -> None:
    """USD-M futures list the symbol as SETTLING and refuse its klines with -1122.

    No run fails, and REST is not requested again.
    """
    settling = {
        "symbol": "BTCUSDT",
        "start": "2025-02-19",
        "end": "2025-04-01",
        "status": "SETTLING",
        "market": "um",
    }
    hole = {"symbol": "BTCUSDT", "start": "2025-02-10T03:00", "end": "2025-02-10T05:00"}
    with run_sandbox_deployment(
        tmp_path / "d", {"suspensions": [settling], "archive_omissions": [hole]}, CAPTURE_MARKET="um"
    ) as sandbox:
        result = fill(sandbox)
        assert (result.archive_only, result.pages, bars(sandbox).height) == ("SETTLING", 0, 18 * 24 - 2)
        assert find_gaps(sandbox.deployment, february(sandbox), parse_time(NOW)).missing == 2
        sandbox.forget_requests()
        assert fill(sandbox).archive_only == "SETTLING"
        assert not [entry for entry in sandbox.requests() if entry["path"] == "/fapi/v1/klines"]


class Client:
    """REST client with a clock that starts at minute 1 and moves only by its waits."""

    def __init__(self, sandbox: SandboxDeployment, root: Path, **limits: Any) -> None:
        self.waits: list[float] = []
        self.now_s = 60.0
        http, settings = Http(sandbox.deployment.settings.http), RateLimits(**limits)
        address = AddressLimits(root / "limits.json", settings, now_s=lambda: self.now_s)
        self.rest = RestClient(
            http, sandbox.url, Market.SPOT, settings, address, now_s=lambda: self.now_s, sleep=self.sleep
        )

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds


def test_too_many_requests_are_waited_out(sandbox: SandboxDeployment, tmp_path: Path) -> None:
    """The wait is that of Retry-After, if it is not too long."""
    sandbox.faults({**KLINES, "fault": "status_429", "retry_after": 1})
    assert fill(sandbox).still_missing == 0
    assert sandbox.injected() == 1
    sandbox.faults({"match": {"path": "/api/v3/time"}, "fault": "status_429", "retry_after": 7, "times": 2})
    client = Client(sandbox, tmp_path)
    assert client.rest.server_time_us() == parse_time(NOW)
    assert client.waits == [7.0, 7.0]


def test_a_wait_beyond_the_bound_ends_the_step(sandbox: SandboxDeployment) -> None:
    """The error contains the length of the wait."""
    sandbox.faults({**KLINES, "fault": "status_429", "retry_after": 30})
    with pytest.raises(RateLimitedError) as caught:
        fill(sandbox, CAPTURE_RATE_LIMITS_MAX_WAIT_S="2")
    assert caught.value.retry_after_s == 30


def test_a_ban_silences_every_process_until_it_ends(sandbox: SandboxDeployment) -> None:
    """418 is recorded in the lake, so a restart sends nothing before the end of the ban."""
    sandbox.faults({**KLINES, "fault": "status_418", "retry_after": 600})
    with pytest.raises(BannedError):
        fill(sandbox)
    sandbox.faults()
    sandbox.forget_requests()
    with pytest.raises(BannedError, match="run again after that time"):
        sandbox.reopened().rest.server_time_us()
    assert sandbox.requests() == []


def test_short_ban_is_waited_out(
    sandbox: SandboxDeployment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The end is by the wall clock, and one line is logged."""
    client = Client(sandbox, tmp_path)
    sandbox.faults({"match": {"path": "/api/v3/time"}, "fault": "status_418", "retry_after": 200})
    assert client.rest.server_time_us() == parse_time(NOW)
    assert client.waits == [200.0]
    told = (
        "the exchange has banned this address until 1970-01-01T00:04:20Z (418); all requests wait until then"
    )
    assert [record.getMessage() for record in caplog.records] == [f"{sandbox.url}: {told}"]


def test_firewall_pauses_all_and_is_not_waited_out(sandbox: SandboxDeployment, tmp_path: Path) -> None:
    """403 fails its request.

    The following requests are not sent for two minutes, and their errors contain the reason.
    """
    client = Client(sandbox, tmp_path)
    sandbox.faults({"match": {"path": "/api/v3/time"}, "fault": "status_403"})
    with pytest.raises(AccessDeniedError):
        client.rest.server_time_us()
    sandbox.forget_requests()
    other = Client(sandbox, tmp_path)
    with pytest.raises(RateLimitedError, match="firewall refuses this address") as caught:
        other.rest.server_time_us()
    assert (caught.value.retry_after_s, sandbox.requests(), other.waits) == (120.0, [], [])
    other.now_s += 120
    assert other.rest.server_time_us() == parse_time(NOW)


def test_ban_that_begins_between_two_tries_is_obeyed(sandbox: SandboxDeployment, tmp_path: Path) -> None:
    """Another process is banned after the first of four attempts, so the second one is not sent."""
    client = Client(sandbox, tmp_path, max_wait_s=0)
    sandbox.faults({"match": {"path": "/api/v3/time"}, "fault": "timeout", "stall_s": 1, "times": "always"})
    other = AddressLimits(tmp_path / "limits.json", RateLimits(), now_s=lambda: client.now_s)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.rest.server_time_us)
        until(lambda: sandbox.injected() == 1)
        other.refuse(HostGroup.REST, 418, 600.0)
        with pytest.raises(BannedError):
            asked.result(30)
    assert sandbox.injected() == 1


def test_the_used_weight_header_holds_requests_back(tmp_path: Path) -> None:
    """The header includes requests of other programs. The client waits for the next minute."""
    with run_sandbox_deployment(tmp_path / "d", {"weight_budget": 100}) as sandbox:
        client = Client(sandbox, tmp_path, weight_per_minute=50, use_percent=100)
        for _ in range(50):
            client.rest.server_time_us()
        assert client.waits == []
        client.rest.server_time_us()
        assert client.waits == [60.0]


def test_weight_used_by_another_program_counts(sandbox: SandboxDeployment, tmp_path: Path) -> None:
    """The first answer reports that most of the budget is used."""
    _avoid_the_end_of_a_minute()
    other = Client(sandbox, tmp_path)
    for _ in range(40):
        other.rest.server_time_us()
    client = Client(sandbox, tmp_path, weight_per_minute=50, use_percent=100)
    sent = 0
    while not client.waits:
        client.rest.server_time_us()
        sent += 1
    assert sent <= 11
    assert client.waits == [60.0]


@pytest.mark.parametrize(
    ("budget", "refused"), [(6000, (RequestRefusedError, "400")), (45, (RateLimitedError, "429"))]
)
def test_weight_header_of_a_refused_request_counts(
    budget: int, refused: tuple[type[CaptureError], str], tmp_path: Path
) -> None:
    """400 and 429 cost weight, and their headers report it."""
    _avoid_the_end_of_a_minute()
    with run_sandbox_deployment(tmp_path / "d", {"weight_budget": budget}) as sandbox:
        other = Client(sandbox, tmp_path / "other")
        for _ in range(45):
            other.rest.server_time_us()
        client = Client(sandbox, tmp_path, weight_per_minute=50, use_percent=100, max_wait_s=0)
        with pytest.raises(refused[0], match=refused[1]):
            client.rest._get("aggTrades", {"symbol": "BTCUSDT", "limit": "none"})
        assert client.rest._limiter._governor.wait_s(10, client.now_s) == 60.0


def _avoid_the_end_of_a_minute() -> None:
    """Wait if the minute of the wall clock is about to end, because the exchange counts by minutes."""
    if time.time() % 60 > 55:
        time.sleep(60 - time.time() % 60)


@pytest.mark.parametrize(
    ("budget", "used", "weight", "wait"),
    [(100, 0, 2, 0), (100, 98, 2, 0), (100, 99, 2, 45), (100, 5000, 1, 45), (1, 0, 2, 0)],
)
def test_the_governor_waits_for_the_next_minute(budget: int, used: int, weight: int, wait: float) -> None:
    """Fifteen seconds after the start of a minute; a request heavier than the budget is still sent."""
    governor = WeightGovernor(budget)
    governor.wait_s(0, 15.0)
    governor.learn(used, 15.0)
    assert governor.wait_s(weight, 15.0) == wait
    assert governor.wait_s(weight, 60.0) == 0


def test_answer_beyond_the_cap_is_refused(sandbox: SandboxDeployment) -> None:
    """The limit is that of the decompressed answer."""
    sandbox.faults(
        {"match": {"path": "/api/v3/time"}, "fault": "gzip_bomb", "inflate_mb": 40, "times": "always"}
    )
    with pytest.raises(ProtocolViolationError, match="answers with more than 33,554,432 bytes"):
        sandbox.deployment.rest.server_time_us()
    assert sandbox.injected() == 1


def test_an_unknown_symbol_is_refused_by_code(sandbox: SandboxDeployment) -> None:
    """The error contains -1121 and the exchange's text."""
    with pytest.raises(RequestRefusedError, match=r"-1121 'Invalid symbol\.'") as caught:
        sandbox.deployment.rest.klines("NOSUCHUSDT", sandbox.deployment.settings.interval, 0, HOUR_US)
    assert (caught.value.status, caught.value.code) == (400, -1121)


HOLE = {"symbol": "BTCUSDT", "start": "2025-01-10T03:00:00Z", "end": "2025-01-10T06:00:00Z"}


def january(sandbox: SandboxDeployment) -> Partition:
    return sandbox.deployment.partition("BTCUSDT", Month(2025, 1))


def run_all_steps(sandbox: SandboxDeployment) -> Any:
    deployment = sandbox.reopened()
    now_us = deployment.rest.server_time_us()
    fetch_archives(deployment, january(sandbox), now_us)
    fill_from_rest(deployment, january(sandbox), now_us)
    build_bars(deployment, january(sandbox))
    return find_gaps(deployment, january(sandbox), now_us)


def test_a_hole_in_an_archive_file_is_filled_and_told(tmp_path: Path) -> None:
    """The ledger contains the filled gap, and the bars contain their source."""
    with run_sandbox_deployment(tmp_path, {"archive_omissions": [HOLE]}) as sandbox:
        result = run_all_steps(sandbox)
        rows = result.gaps.select("bars", "status", "cause", "filled_by").rows()
        assert rows == [(3, "filled", "archive_omission", "rest")]
        assert (result.missing, result.unexplained, result.fillable) == (0, 0, 0)


def test_a_hole_of_the_exchange_is_verified_and_then_left_alone(tmp_path: Path) -> None:
    """The hole is requested twice, half an hour apart, and never again."""
    with run_sandbox_deployment(
        tmp_path, {"outages": [{"start": HOLE["start"], "end": HOLE["end"]}]}
    ) as sandbox:
        deployment = sandbox.deployment

        def state() -> tuple[int, bool, int, int]:
            (row,) = run_all_steps(sandbox).gaps.rows(named=True)
            assert (row["cause"], row["status"], row["bars"]) == ("unknown", "open", 3)
            wanted = find_fillable(deployment, deployment.rest.server_time_us()).partitions
            return row["attempts"], row["verified_nonexistent"], row["bars"], len(wanted)

        assert state() == (1, False, 3, 0)
        assert state() == (1, False, 3, 0)
        sandbox.clock(advance_s=1800)
        assert len(find_fillable(deployment, deployment.rest.server_time_us()).partitions) == 1
        assert state() == (2, True, 3, 0)
        sandbox.clock(advance_s=86_400)
        assert state() == (2, True, 3, 0)
        assert deployment.lake.bars(january(sandbox)).is_file()


def test_a_hole_that_rest_served_late_is_filled_later(sandbox: SandboxDeployment) -> None:
    """One answer without the klines is a sighting, and no proof."""
    sandbox.faults(
        {"match": {"path": "*BTCUSDT-1h-2025-01.zip"}, "fault": "checksum_wrong"},
        {"match": {"path": "*BTCUSDT-1h-2025-01-*.zip"}, "fault": "checksum_missing"},
        {**KLINES, "fault": "rest_hole", "start": HOLE["start"], "end": HOLE["end"]},
    )
    first = run_all_steps(sandbox)
    assert (first.missing, first.unexplained) == (3, 3)
    sandbox.faults()
    sandbox.clock(advance_s=3600)
    deployment = sandbox.reopened()
    fill_from_rest(deployment, january(sandbox), deployment.rest.server_time_us())
    build_bars(deployment, january(sandbox))
    second = find_gaps(deployment, january(sandbox), deployment.rest.server_time_us())
    assert (second.missing, second.gaps.select("status", "filled_by").rows()) == (0, [("filled", "rest")])


def test_months_before_listing_and_after_delisting_are_no_gaps(tmp_path: Path) -> None:
    """The symbol traded for ten days of January."""
    symbol = {"symbol": "LIVEDUSDT", "listed": "2025-01-10T05:00:00Z", "delisted": "2025-01-20T00:00:00Z"}
    with run_sandbox_deployment(tmp_path, {"symbols": [symbol]}, CAPTURE_SYMBOLS="LIVEDUSDT") as sandbox:
        deployment = sandbox.deployment
        now_us = deployment.rest.server_time_us()
        part = deployment.partition("LIVEDUSDT", Month(2025, 1))
        fetch_archives(deployment, part, now_us)
        fill_from_rest(deployment, part, now_us)
        build_bars(deployment, part)
        result = find_gaps(deployment, part, now_us)
        assert [(row["cause"], row["bars"]) for row in result.gaps.rows(named=True)] == [
            ("before_listing", 9 * 24 + 5),
            ("after_delisting", 12 * 24),
        ]
        assert (result.expected, result.missing) == (10 * 24 - 5, 0)
