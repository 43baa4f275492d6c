"""Tests of stream faults: each applies to the configured connections and messages and is counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from pydantic import ValidationError
from websockets.exceptions import InvalidStatus

from capture_pipeline.binance.periods import parse_time
from capture_pipeline.binance.urls import Market
from capture_pipeline_tests.support.exchange.streams import (
    BOTH,
    DEPTH,
    TRADE,
    Exchange,
    close_code,
    exchange,
    receive,
    receive_data,
    receive_rest,
    until,
)
from sandbox_exchange.faults.rules import FaultRule

DIFFS = f"/stream?streams={DEPTH}"


@pytest.fixture(scope="module")
def _run_exchange() -> Iterator[Exchange]:
    with exchange() as box:
        yield box


@pytest.fixture
def box(_run_exchange: Exchange) -> Iterator[Exchange]:
    """Run a sandbox with a stopped clock; each test starts without faults."""
    yield _run_exchange
    _run_exchange.faults()


def first_ids(messages: list[bytes]) -> list[int]:
    """Return trade ids, or first update ids."""
    return [json.loads(message)["data"].get("t") or json.loads(message)["data"]["U"] for message in messages]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"fault": "ws_cut"}, 1006),
        ({"fault": "ws_reset"}, 1006),
        ({"fault": "ws_close"}, 1001),
        ({"fault": "ws_close", "code": 1000}, 1000),
        ({"fault": "ws_close", "code": 1012}, 1012),
    ],
)
def test_a_connection_ends_after_the_messages_its_rule_lets_pass(
    box: Exchange, rule: dict[str, Any], code: int
) -> None:
    """One connection ends after its twentieth message, the other gets all messages."""
    with box.connect(DIFFS) as hit, box.connect(DIFFS) as spared:
        number = box.connections()[-1]["number"] - 1
        box.faults({**rule, "after": 20, "match": {"connection": number}})
        box.advance(5)
        messages, closed = receive_rest(hit)
        assert close_code(closed) == code
        # A reset discards messages that are not received yet.
        assert messages == receive(spared, 50)[: len(messages)]
        assert len(messages) == 20 or rule["fault"] == "ws_reset"
        assert box.injected() == [1]
    assert rule["fault"] in next(one for one in box.connections() if one["number"] == number)["faults"]


def test_a_silent_connection_answers_pings_and_a_half_open_one_does_not(box: Exchange) -> None:
    """Neither connection gets data; only the silent one answers pings and a close."""
    with box.connect(DIFFS) as silent, box.connect(DIFFS) as dead:
        last = box.connections()[-1]["number"]
        box.faults(
            {"fault": "ws_silent", "after": 3, "match": {"connection": last - 1}},
            {"fault": "ws_half_open", "after": 3, "match": {"connection": last}},
        )
        box.advance(2)
        assert receive(silent, 3) == receive(dead, 3)
        for client, answers in ((silent, True), (dead, False)):
            assert client.ping().wait(0.5) is answers
            with pytest.raises(TimeoutError):
                client.recv(timeout=0.1)
        assert [one["state"] for one in box.connections()[-2:]] == ["silent", "half-open"]
        box.control("streams", {"connection": last - 1, "fault": "ws_reset"})
        dead.close_socket() if hasattr(dead, "close_socket") else dead.socket.close()


def test_shutdown_is_announced_and_follows_later(box: Exchange) -> None:
    """The announcement comes between the data, which continue until the close `lag_s` later."""
    with box.connect(DIFFS) as client:
        box.faults({"fault": "ws_shutdown", "after": 5, "lag_s": 3})
        box.advance(2)
        messages = receive(client, 21)
        assert json.loads(messages[5])["data"]["e"] == "serverShutdown"
        box.advance(2)
        assert close_code(receive_rest(client)[1]) == 1001


@pytest.mark.parametrize("status", [429, 503, 403])
def test_an_upgrade_is_refused(box: Exchange, status: int) -> None:
    """The second of three handshakes gets the status of the rule."""
    box.faults(
        {"fault": "ws_refuse", "status": status, "after": 1, "retry_after": 7, "match": {"path": "/stream"}}
    )
    with box.connect():
        with pytest.raises(InvalidStatus) as refused:
            box.connect()
        assert refused.value.response.status_code == status
        assert refused.value.response.headers.get("Retry-After") == ("7" if status == 429 else None)
        with box.connect():
            pass
    assert box.injected() == [1]


def test_late_data_come_whole_and_in_order(box: Exchange) -> None:
    """The data of one connection are delayed by a period of market time."""
    with box.connect(DIFFS) as late, box.connect(DIFFS) as prompt:
        box.faults(
            {
                "fault": "ws_lag",
                "lag_s": 4,
                "after": 2,
                "match": {"connection": box.connections()[-2]["number"]},
            }
        )
        box.advance(2)
        expected = receive(prompt, 20)
        assert receive(late, 2) == expected[:2]
        with pytest.raises(TimeoutError):
            late.recv(timeout=0.2)
        box.advance(4.1)
        assert receive(late, 18) == expected[2:]


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("ws_drop", lambda ids: ids[:5] + ids[6:8] + ids[9:]),
        ("ws_duplicate", lambda ids: [*ids[:5], ids[5], *ids[5:9], ids[8], *ids[9:]]),
        ("ws_reorder", lambda ids: [*ids[:5], ids[6], ids[5], ids[7], ids[9], ids[8], *ids[10:]]),
    ],
)
def test_messages_are_lost_doubled_and_exchanged(
    box: Exchange, fault: str, change: Any, *, everywhere: bool
) -> None:
    """The rule applies to the sixth and the ninth message, on all connections or on one."""
    with box.connect(DIFFS) as one, box.connect(DIFFS) as other:
        match = {} if everywhere else {"connection": box.connections()[-2]["number"]}
        box.faults(
            {"fault": fault, "after": 5, "every": 3, "times": 2, "match": {**match, "stream": "*@depth*"}}
        )
        all_of_them = expected_ids(box, 30)
        box.advance(3)
        hit = change(all_of_them)
        assert first_ids(receive(one, len(hit))) == hit
        assert first_ids(receive(other, len(hit) if everywhere else 30)) == (
            hit if everywhere else all_of_them
        )
        assert box.injected() == [2]
        assert box.control("streams")["streams"][DEPTH]["last_id"] >= all_of_them[-1]


def expected_ids(box: Exchange, count: int) -> list[int]:
    """Return the first ids of the next diffs from the book."""
    market = box.server.sandbox.market
    assert market is not None
    book = market.book(Market.SPOT, "BTCUSDT")
    slot = book.last_changed_slot(box.server.sandbox.clock.now_us()) + 1
    return [int(number) for number in book.diffs(slot, slot + count).first_id]


@pytest.mark.parametrize("fault", ["ws_bad_utf8", "ws_bad_json", "ws_oversized", "ws_split"])
def test_messages_are_spoilt(box: Exchange, fault: str) -> None:
    """One trade is not UTF-8, not JSON, very long, or in pieces; the others are unchanged."""
    with box.connect() as client, box.connect() as clean:
        rule = {
            "fault": fault,
            "after": 2,
            "match": {"stream": TRADE, "connection": box.connections()[-2]["number"]},
        }
        box.faults({**rule, "bytes": 300_000} if fault == "ws_oversized" else rule)
        box.advance(10)
        pairs = zip(receive(client, 100), receive(clean, 100), strict=True)
        differing = [(mine, theirs) for mine, theirs in pairs if mine != theirs]
        assert box.injected() == [1]
    if fault == "ws_split":
        assert differing == []
        return
    ((mine, theirs),) = differing
    assert json.loads(theirs)["data"]["e"] == "trade"
    if fault == "ws_oversized":
        assert (len(mine), json.loads(mine)) == (300_000, json.loads(theirs))
    else:
        with pytest.raises(ValueError, match=r"codec|delimiter|Expecting|Unterminated"):
            json.loads(mine.decode())


@pytest.mark.parametrize(("fault", "key"), [("ws_answer", "result"), ("ws_error", "error")])
def test_answers_come_between_messages(box: Exchange, fault: str, key: str) -> None:
    """An answer or an error object precedes the third diff; no diff is lost."""
    with box.connect(DIFFS) as client:
        box.faults({"fault": fault, "after": 2, "match": {"stream": "*@depth*"}})
        expected = expected_ids(box, 10)
        box.advance(1)
        messages = [json.loads(message) for message in receive(client, 11)]
        assert (key in messages[2], messages[2]["id"]) == (True, 1)
        assert [message["data"]["U"] for number, message in enumerate(messages) if number != 2] == expected


def test_a_rule_can_wait_for_a_market_time_and_a_stream(box: Exchange) -> None:
    """The rule applies only between `start` and `end`."""
    with box.connect(DIFFS) as client:
        now_us = box.control("clock")["now_us"]
        box.control("clock", {"now": "2025-02-20T11:00:00Z"})
        until(lambda: box.control("streams")["position"] == "2025-02-20T11:00:00Z")
        receive(client, (parse_time("2025-02-20T11:00:00Z") - now_us) // 100_000)
        box.faults(
            {
                "fault": "ws_drop",
                "times": "always",
                "start": "2025-02-20T11:00:01Z",
                "end": "2025-02-20T11:00:02Z",
            }
        )
        box.advance(3)
        times = [diff["E"] - parse_time("2025-02-20T11:00:00Z") // 1000 for diff in receive_data(client, 20)]
        assert times == [*range(100, 1000, 100), *range(2000, 3001, 100)]
        assert box.injected() == [10]


def test_connections_are_cut_in_turns_and_never_together() -> None:
    """With `every_s` connections end in turn, at different times; `least` protects a single one."""
    with exchange(faults=[{"fault": "ws_close", "code": 1001, "every_s": 60, "least": 2}]) as box:
        with box.connect(DIFFS) as one, box.connect(DIFFS) as other:
            for _ in range(50):
                box.advance(1)
                receive(other, 10)
            assert close_code(receive_rest(one)[1]) == 1001
            for _ in range(60):
                box.advance(1)
                receive(other, 10)
            assert box.injected() == [1]
            with box.connect(DIFFS) as third:
                box.advance(1)
                receive(third, 10)
                assert close_code(receive_rest(other)[1]) == 1001
                box.advance(29)
                receive(third, 290)
                assert box.injected() == [2]
        ended = [one for one in box.connections() if one["close_code"] == 1001]
        assert 25 < ended[0]["age_s"] < 35


def test_connections_are_hit_by_hand(box: Exchange) -> None:
    """The control endpoint can inject into one connection or all, and rejects invalid requests."""
    url = f"{box.url}/_sandbox/streams"
    with box.connect() as one, box.connect() as other:
        number = box.connections()[-2]["number"]
        before = box.server.sandbox.faults.count_injected("ws_close")
        assert box.control("streams", {"connection": number, "fault": "ws_close", "code": 1008}) == {
            "hit": [number]
        }
        assert close_code(receive_rest(one)[1]) == 1008
        assert box.control("streams", {"connection": "all", "fault": "ws_cut"})["hit"][-1] == number + 1
        assert close_code(receive_rest(other)[1]) == 1006
        assert box.server.sandbox.faults.count_injected("ws_close") == before + 1
        assert box.control("streams")["by_hand"]["ws_close"] >= 1
    for wrong, status in (
        ({"connection": 99_999, "fault": "ws_cut"}, 404),
        ({"connection": 1, "fault": "ws_drop"}, 400),
        ({"connection": 1, "fault": "ws_close", "code": 1006}, 400),
        ({"connection": "some", "fault": "ws_cut"}, 400),
        ({"fault": "ws_cut"}, 400),
    ):
        answer = requests.post(url, json=wrong, timeout=30)
        assert answer.status_code == status
        assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    ("rule", "error_text"),
    [
        ({"fault": "ws_close", "code": 1006}, "use ws_cut or ws_reset"),
        ({"fault": "ws_refuse", "status": 200}, "status must be 400 to 599"),
        ({"fault": "ws_drop", "every_s": 5}, "every_s"),
        ({"fault": "ws_cut", "every_s": 0}, "every_s"),
        ({"fault": "ws_oversized", "bytes": 1e12}, "bytes must be at most"),
        ({"fault": "reset", "match": {"stream": "*"}}, "apply to faults of streams only"),
    ],
)
def test_a_wrong_rule_is_refused(rule: dict[str, Any], error_text: str) -> None:
    """Invalid rules are rejected when the script is read."""
    with pytest.raises(ValidationError, match=error_text):
        FaultRule.model_validate(rule)


def test_both_streams_of_one_connection_are_counted_together(box: Exchange) -> None:
    """A rule without a stream counts all messages of a connection."""
    with box.connect(BOTH) as client:
        box.faults({"fault": "ws_close", "after": 40})
        box.advance(10)
        assert len(receive_rest(client)[0]) == 40
