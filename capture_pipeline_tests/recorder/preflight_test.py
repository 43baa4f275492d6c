"""`capture session preflight` as a process, against an exchange with undocumented behaviour."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict

from capture_pipeline.binance.urls import Market
from capture_pipeline.recorder.preflight.observations import RestRecord, join_entries
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.exchange.process import exchange
from capture_pipeline_tests.support.sessions.recorder import BUSY, QUICK
from capture_pipeline_tests.support.waits import wait_for

pytestmark = pytest.mark.slow

ESCAPE, HIDDEN = "\x1b[2J", "z\u202ez"
SUSPENDED = {"symbol": "ETHUSDT", "start": "2025-02-01", "end": "2025-03-01", "status": "SETTLING"}
NOTICE = '{"e":"serverShutdown","E":1740047400000}'
TEXT = f'{{"stream":"{ESCAPE}{"x" * 5000}","data":{{}}}}'
FAULTS: list[dict[str, Any]] = [
    {
        "fault": "rest_header",
        "name": "X-Unknown-Weight",
        "value": "7",
        "times": "always",
        "match": {"path": "*/klines"},
    },
    {
        "fault": "ws_unknown_field",
        "name": HIDDEN,
        "value": f'"{"y" * 5000}"',
        "match": {"stream": "*@depth*"},
    },
    {"fault": "ws_text", "value": NOTICE, "after": 5, "match": {"stream": "*@depth*"}},
]
DEPTH_FIELDS = {
    "spot": ["e", "E", "s", "U", "u", "b", "a"],
    "um": ["e", "E", "T", "s", "ps", "U", "u", "pu", "b", "a", "st"],
}


@pytest.fixture(params=["spot", "um"])
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SandboxDeployment]:
    """Start a market at twenty times the real speed that pings each second."""
    market = {"frozen": False, "speed": 20, "symbols": [BUSY, "ETHUSDT"], "suspensions": [SUSPENDED]}
    unusual = {
        "ping_every_s": 0.5,
        "um_ping_every_s": 0.5,
        "spot_trade_id_hole_every": 20,
        "order_types": {"every": 20},
    }
    with exchange(tmp_path, {**market, **unusual}, CAPTURE_MARKET=request.param) as made:
        yield made


def preflight(sandbox: SandboxDeployment, **environment: str) -> tuple[str, dict[str, Any]]:
    """Run the command; return its output and its record."""
    command = [
        sys.executable,
        "-c",
        "from capture_pipeline.cli.main import main; main()",
        "session",
        "preflight",
        "--seconds",
        "4",
    ]
    done = subprocess.run(
        command,
        env={**os.environ, **sandbox.environment(**QUICK, **environment)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    records = sorted(sandbox.root.glob("golden_samples/preflight/*.json"))
    assert len(records) == 1, done.stdout + done.stderr
    assert str(records[0]) in done.stdout
    return done.stdout, json.loads(records[0].read_text())


def test_what_no_document_describes_is_printed_and_recorded(sandbox: SandboxDeployment) -> None:
    """Headers, weights, statuses, fields, holes, notices and pings; external text is escaped and cut."""
    market = sandbox.environment()["CAPTURE_MARKET"]
    sandbox.faults(*FAULTS)
    # Weights are not judged at the end of a minute.
    wait_for(lambda: time.time() % 60 < 50)
    said, record = preflight(sandbox)
    lines = {line[6:20].strip(): line for line in said.splitlines() if line.startswith("SEEN")}
    assert not [line for line in said.splitlines() if line.startswith("FAIL")]
    assert HIDDEN not in said
    assert max(map(len, said.splitlines())) < 600

    assert record["headers"]["x-unknown-weight"] == "7"
    assert "x-unknown-weight" in lines["headers"]
    assert "x-mbx-used-weight-1m" in lines["headers"]
    assert {"200"} == {status for seen in record["requests"].values() for status in seen["statuses"]}
    assert all(
        set(seen["weights_seen"]) <= {str(seen["weight_expected"])} for seen in record["requests"].values()
    )
    assert sum(bool(seen["weights_seen"]) for seen in record["requests"].values()) >= 4
    assert record["statuses"] == {"counts": {"TRADING": 1, "SETTLING": 1}, "symbols": {"BTCUSDT": "TRADING"}}
    assert "SETTLING 1" in lines["statuses"]

    depth = record["streams"]["btcusdt@depth@100ms"]
    assert [name for name in depth["fields"] if name != HIDDEN] == DEPTH_FIELDS[market]
    assert depth["unknown_fields"].keys() == {HIDDEN}
    assert len(depth["unknown_fields"][HIDDEN]) == 300
    assert depth["missing_fields"] == []
    assert r"btcusdt@depth@100ms z\u202ez" in lines["fields"]
    if market == "spot":
        holes = record["streams"]["btcusdt@trade"]["id_holes"]
        assert holes["ids"] == holes["count"] > 3
        assert "btcusdt@trade" in lines["id holes"]
    else:
        assert depth["values"] == {"ps": {'"BTCUSDT"': depth["messages"]}, "st": {"1": depth["messages"]}}
        assert record["streams"]["btcusdt@aggTrade"]["values"]["nq"].keys() == {"equal to q"}
        assert lines["id holes"].endswith(" none")

    assert record["close_notices"] == [NOTICE]
    assert NOTICE in lines["close notices"]
    for seen in record["connections"]:
        assert seen["status"] == 101
        assert seen["headers"]["upgrade"] == "websocket"
        assert seen["pings"] > 3
        assert all(0.2 < between < 3 for between in seen["ping_intervals_s"])


def test_refusals_are_recorded_with_their_status_and_wait(sandbox: SandboxDeployment) -> None:
    """The refusals are those of REST and of the handshake; foreign text is escaped and cut."""
    sandbox.faults(
        {"fault": "status_429", "retry_after": 1, "match": {"path": "*/time"}},
        {"fault": "status_400", "code": -1120, "times": "always", "match": {"path": "*/klines"}},
        {"fault": "ws_text", "value": TEXT, "after": 2},
    )
    said, record = preflight(sandbox)
    assert record["retry_after"] == [{"status": 429, "value": "1"}]
    assert "429: 1" in said
    statuses = {name: seen["statuses"] for name, seen in record["requests"].items()}
    assert any(name.endswith("/time") and seen["429"] == 1 for name, seen in statuses.items())
    assert {tuple(seen) for name, seen in statuses.items() if "/klines" in name} == {("400",)}
    assert len(record["refusals"]) == 2
    assert all("-1120" in refusal for refusal in record["refusals"])
    assert record["other_messages"] == [TEXT[:300]]
    assert ESCAPE not in said
    assert r"\x1b[2J" in said


def test_a_refused_handshake_is_recorded(sandbox: SandboxDeployment) -> None:
    """The record contains status and headers."""
    sandbox.faults({"fault": "ws_refuse", "status": 429, "retry_after": 9, "times": "always"})
    said, record = preflight(sandbox)
    assert "FAIL  test capture" in said
    assert {(seen["status"], seen["headers"].get("retry-after")) for seen in record["connections"]} >= {
        (429, "9")
    }


def test_entries_for_people_are_escaped_and_cut() -> None:
    """Each entry is one line of bounded length, for any names of headers and fields."""
    assert join_entries([]) == join_entries({}) == "none"
    assert join_entries({HIDDEN: 2}) == r"z\u202ez 2"
    assert join_entries([ESCAPE, "next\nline"]) == r"\x1b[2J, next\nline"
    assert len(join_entries(["x" * 400] * 10)) == 500


def test_names_of_headers_are_compared_without_case() -> None:
    """HTTP/1.1 allows any case; the value of a cookie is not stored."""
    record = RestRecord(Market.SPOT)
    record.note(
        "https://host/api/v3/time",
        429,
        {"Retry-After": "Wed, 02 Dec 2026 07:28:00 GMT", "Set-Cookie": "secret"},
    )
    assert record.retry_after == [{"status": 429, "value": "Wed, 02 Dec 2026 07:28:00 GMT"}]
    assert record.headers == {"retry-after": "Wed, 02 Dec 2026 07:28:00 GMT", "set-cookie": ""}


def test_the_weight_of_a_request_is_a_difference_within_one_minute() -> None:
    """The exchange resets its count each minute, and `Date` may be a second old at the end of a minute."""
    answers = [("05", 3), ("06", 5), ("58", 9), ("59", 12), ("00", 13), ("01", 15), ("02", 17)]
    record = RestRecord(Market.SPOT)
    for second, used in answers:
        date = f"Wed, 02 Dec 2026 07:{29 if second < '05' else 28}:{second} GMT"
        record.note(
            "https://host/api/v3/klines?limit=1000",
            200,
            CaseInsensitiveDict({"X-MBX-USED-WEIGHT-1M": str(used), "Date": date}),
        )
    assert record.requests["GET /api/v3/klines limit=1000"]["weights_seen"] == {"2": 2, "4": 1}
