"""Tests of market and venue of an import, from its data or from the user, and of their use in `prove`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from capture_pipeline.errors import CaptureError, ConfigError, MalformedDataError
from capture_pipeline.golden.imports.evidence import Evidence
from capture_pipeline.golden.imports.session_builder import import_session
from capture_pipeline.golden.imports.sources import Origin
from capture_pipeline.golden.proof.prover import prove, unprovable_reason
from capture_pipeline.sessions.models import SessionMetadata, SessionPlan
from capture_pipeline_tests.support.deployment import SandboxDeployment

T = 1_741_000_000
SPOT_DIFF = '{"e":"depthUpdate","E":1741000000000,"s":"ADAUSDT","U":1,"u":1,"b":[],"a":[]}'
UM_DIFF = (
    '{"e":"depthUpdate","E":1741000000000,"T":1741000000000,"s":"ADAUSDT","U":1,"u":1,"pu":0,"b":[],"a":[]}'
)
CM_DIFF = (
    '{"e":"depthUpdate","E":1741000000000,"T":1741000000000,'
    '"s":"ADAUSD_PERP","ps":"ADAUSD","U":1,"u":1,"pu":0,"b":[],"a":[]}'
)
UM_TRADE = (
    '{"e":"trade","E":1741000000000,"T":1741000000000,'
    '"s":"ADAUSDT","t":1,"p":"1","q":"1","X":"MARKET","m":true}'
)
SPOT_TRADE = (
    '{"e":"trade","E":1741000000000,"s":"ADAUSDT","t":1,"p":"1","q":"1","T":1741000000000,"m":true,"M":true}'
)
UM_AGGREGATE = (
    '{"e":"aggTrade","E":1741000000000,"a":1,'
    '"s":"ADAUSDT","p":"1","q":"1","f":1,"l":1,"T":1741000000000,"m":true}'
)
SPOT_TICKER = '{"u":1,"s":"ADAUSDT","b":"1","B":"1","a":"2","A":"1"}'
UM_TICKER = '{"e":"bookTicker","u":1,"s":"ADAUSDT","b":"1","B":"1","a":"2","A":"1","T":1,"E":1}'
UM_BOOK = '{"lastUpdateId":1,"E":1741000000000,"T":1741000000000,"bids":[],"asks":[]}'
CM_BOOK = (
    '{"lastUpdateId":1,"E":1741000000000,"T":1741000000000,'
    '"symbol":"ADAUSD_PERP","pair":"ADAUSD","bids":[],"asks":[]}'
)


def hft(path: Path, *messages: tuple[str, str]) -> Path:
    lines = (f'{{"stream":"{stream}","data":{data}}}' if stream else data for stream, data in messages)
    path.write_text("".join(f"{T * 10**9 + at} {line}\n" for at, line in enumerate(lines)))
    return path


def read_plan(folder: Path, *files: Path, origin: Origin = Origin.HFTBACKTEST, **options: Any) -> SessionPlan:
    session = import_session(origin, list(files), folder / "out", **options)
    metadata = SessionMetadata.model_validate_json(session.metadata.read_bytes())
    assert metadata.plan == SessionPlan.model_validate_json(session.plan.read_bytes())
    return metadata.plan


@pytest.mark.parametrize(
    ("stream", "data", "market"),
    [
        ("adausdt@depth@100ms", SPOT_DIFF, "spot"),
        ("adausdt@depth@100ms", UM_DIFF, "um"),
        ("adausd_perp@depth@100ms", CM_DIFF, "cm"),
        ("adausd_260327@depth@100ms", UM_DIFF.replace("ADAUSDT", "ADAUSD_260327"), "cm"),
        ("adausdt_260327@depth@100ms", UM_DIFF.replace("ADAUSDT", "ADAUSDT_260327"), "um"),
        ("adausdt@trade", SPOT_TRADE, "spot"),
        ("adausdt@trade", UM_TRADE, "um"),
        ("adausdt@aggTrade", UM_AGGREGATE, "um"),
        ("adausdt@aggTrade", UM_AGGREGATE[:-1] + ',"M":true}', "spot"),
        ("adausdt@bookTicker", UM_TICKER, "um"),
        ("adausdt@markPrice@1s", '{"e":"markPriceUpdate"}', "um"),
        ("", CM_BOOK, "cm"),
    ],
)
def test_the_market_is_told_from_the_form_of_events(
    tmp_path: Path, stream: str, data: str, market: str
) -> None:
    """Each case is a form of event that only one market has. The plan contains the market."""
    plan = read_plan(tmp_path, hft(tmp_path / "a.dat", (stream, data)))
    assert (plan.market, plan.venue) == (market, "binance")


def test_a_market_that_nothing_tells_has_to_be_given(tmp_path: Path) -> None:
    """Best prices have the same form in two markets, and there is no default."""
    path = hft(tmp_path / "a.dat", ("adausdt@bookTicker", SPOT_TICKER))
    with pytest.raises(ConfigError, match=r"show the market.*--market spot, um, cm"):
        read_plan(tmp_path, path)
    assert not (tmp_path / "out").exists()
    assert read_plan(tmp_path, path, market="um", venue="binance.us").venue == "binance.us"


@pytest.mark.parametrize(
    ("messages", "market", "words"),
    [
        (
            [("adausdt@depth", SPOT_DIFF), ("adausdt@trade", UM_TRADE)],
            None,
            r"spot by a.dat \(no pu in adausdt@depth\), um by a.dat \(X in",
        ),
        ([("adausdt@depth", UM_DIFF)], "spot", r"um by a.dat .*, spot by --market"),
        ([("adausdt@depth", UM_DIFF), ("adausd_perp@depth", CM_DIFF)], None, "um by .*, cm by"),
    ],
)
def test_contradictory_evidence_is_refused(
    tmp_path: Path, messages: list[tuple[str, str]], market: str | None, words: str
) -> None:
    """The error names both markets with their evidence, and no file remains."""
    with pytest.raises(MalformedDataError, match=f"the market is contradictory: {words}"):
        read_plan(tmp_path, hft(tmp_path / "a.dat", *messages), market=market)
    assert not (tmp_path / "out").exists()


def test_two_files_of_different_markets_are_no_recording(tmp_path: Path) -> None:
    """The stream name is the same in both markets, so every file is examined."""
    one, other = (
        hft(tmp_path / "a.dat", ("adausdt@trade", SPOT_TRADE)),
        hft(tmp_path / "b.dat", ("adausdt@trade", UM_TRADE)),
    )
    with pytest.raises(MalformedDataError, match="contradictory"):
        read_plan(tmp_path, one, other)


@pytest.mark.parametrize(
    ("url", "market", "venue"),
    [
        ("wss://stream.binance.com:9443/stream?streams=x", "spot", "binance"),
        ("wss://data-stream.binance.vision/stream", "spot", "binance"),
        ("https://api3.binance.com/api/v3/depth", "spot", "binance"),
        ("https://data-api.binance.vision/api/v3/depth", "spot", "binance"),
        ("wss://fstream.binance.com/stream", "um", "binance"),
        ("https://fapi.binance.com/fapi/v1/depth", "um", "binance"),
        ("wss://dstream.binance.com/stream", "cm", "binance"),
        ("https://dapi.binance.com/dapi/v1/depth", "cm", "binance"),
        ("wss://stream.binance.us:9443/stream", "spot", "binance.us"),
        ("https://api.binance.us/api/v3/depth", "spot", "binance.us"),
        ("wss://stream.testnet.binance.vision/stream", "spot", "binance-testnet"),
        ("wss://fstream.binancefuture.com/stream", "um", "binance-testnet"),
        ("wss://proxy.example.org/stream", "", ""),
        ("wss://stream.binance.com.example.org/stream", "", ""),
        ("wss://[bad/stream", "", ""),
    ],
)
def test_hosts_tell_market_and_venue(url: str, market: str, venue: str) -> None:
    """The cases are hosts of the exchange, and hosts with similar names."""
    evidence = Evidence()
    evidence.inspect_url(url, "here")
    assert (list(evidence.markets), list(evidence.venues)) == ([market] * bool(market), [venue] * bool(venue))


@pytest.mark.parametrize(
    ("name", "head", "venue"),
    [
        ("a.txt", "wss://stream.binance.us:9443/stream?streams=x\n", "binance.us"),
        ("BINANCE_US.ws.1.0", "", "binance.us"),
        ("BINANCE.ws.1.0", "", "binance"),
        ("a.txt", f"https://api.binance.us/api/v3/exchangeInfo -> {T}.0: {{}}\n", "binance.us"),
    ],
)
def test_cryptofeed_names_the_venue(tmp_path: Path, name: str, head: str, venue: str) -> None:
    """The venue follows from an address in the file, or from the name of the file."""
    (tmp_path / name).write_text(f'{head}{T}.5: {{"stream":"adausdt@depth","data":{SPOT_DIFF}}}\n')
    assert read_plan(tmp_path, tmp_path / name, origin=Origin.CRYPTOFEED).venue == venue


def test_a_venue_that_nothing_tells_has_to_be_given(tmp_path: Path) -> None:
    """The error names the unknown host."""
    (tmp_path / "a").write_text(
        f'wss://example.org/stream\n{T}.5: {{"stream":"adausdt@depth","data":{SPOT_DIFF}}}\n'
    )
    with pytest.raises(
        ConfigError,
        match=r"show the venue; the host example.org is unknown \(name it with --venue",
    ):
        read_plan(tmp_path, tmp_path / "a", origin=Origin.CRYPTOFEED)
    (tmp_path / "b").write_text((tmp_path / "a").read_text().replace("example.org", "stream.binance.us"))
    with pytest.raises(MalformedDataError, match="the venue is contradictory"):
        read_plan(tmp_path, tmp_path / "b", origin=Origin.CRYPTOFEED, venue="binance")
    assert read_plan(tmp_path, tmp_path / "a", origin=Origin.CRYPTOFEED, venue="binance").venue == "binance"


@pytest.mark.parametrize(
    "option", [{"market": "margin"}, {"venue": "../x"}, {"venue": ""}, {"symbol": "a/b"}, {"symbol": ".."}]
)
def test_wrong_options_are_refused_before_anything_is_read(tmp_path: Path, option: dict[str, Any]) -> None:
    """A value that could become part of a path is rejected."""
    with pytest.raises(ConfigError):
        read_plan(tmp_path, hft(tmp_path / "a.dat", ("adausdt@trade", SPOT_TRADE)), **option)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("market", "venue", "words"),
    [
        ("spot", "binance", ""),
        ("um", "sandbox", ""),
        ("spot", "binance.us", "venue binance.us"),
        ("cm", "binance", "market cm"),
    ],
)
def test_a_session_is_proved_by_its_own_market_or_not_at_all(market: str, venue: str, words: str) -> None:
    """The reason is given for a session whose market or venue has no published files."""
    plan: dict[str, Any] = {
        "session": "s",
        "symbols": [],
        "streams": [],
        "regime": "r",
        "start_us": 0,
        "duration_s": 1,
        "connections": 1,
    }
    reason = unprovable_reason(SessionPlan(**plan, market=market, venue=venue))
    assert words in reason
    assert bool(words) == bool(reason)


def test_prove_says_why_it_cannot(tmp_path: Path) -> None:
    """The error is one line with the folder and a remedy."""
    session = import_session(
        Origin.HFTBACKTEST,
        [hft(tmp_path / "a.dat", ("adausdt@trade", SPOT_TRADE))],
        tmp_path / "out",
        venue="binance.us",
    )
    with pytest.raises(
        CaptureError,
        match=r"is of venue binance.us, of which no files are published \(validate the session instead",
    ):
        prove(SandboxDeployment("http://127.0.0.1:1", tmp_path).deployment, session)


def test_plans_of_before_are_read(tmp_path: Path) -> None:
    """A plan without market and venue belongs to the venue binance and the market spot."""
    plan = read_plan(tmp_path, hft(tmp_path / "a.dat", ("adausdt@trade", SPOT_TRADE))).model_dump()
    del plan["market"], plan["venue"]
    read = SessionPlan.model_validate_json(json.dumps(plan))
    assert (read.market, read.venue) == ("spot", "binance")
