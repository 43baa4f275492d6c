"""Real recorders in a quiet market, with a dead peer, and with many symbols."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from capture_pipeline.sessions.models import Cause
from capture_pipeline_tests.soak.connection_count import many_symbols, quiet_contract
from capture_pipeline_tests.support.sessions.recorder import BUSY, live

pytestmark = pytest.mark.slow
PATIENT = {"CAPTURE_RECORDING_SILENCE_S": "60"}
"""No connection ends by silence within a test."""


def test_a_quiet_contract_is_recorded_over_the_connections_it_began_with(tmp_path: Path) -> None:
    """A diff every 6.25 s and no trade, with a limit of 4 s: four attempts, and no connection is lost."""
    outcome = quiet_contract(tmp_path, hours=0.015, speed=2)
    assert (outcome.connections, outcome.attempts, outcome.ends) == (4, 4, [])
    assert outcome.messages > 3
    assert outcome.ids_lost == 0
    assert [reason.partition(":")[0] for reason in outcome.failed] == ["streams"]


def test_a_quiet_connection_is_renewed_once(tmp_path: Path) -> None:
    """At its age it gets one successor that receives no message but answers pings."""
    still = {**BUSY, "trades_per_day": 1, "book_interval_s": None}
    with live(tmp_path, speed=1, connections=1, config={"symbols": [still]}) as session:
        session.start(CAPTURE_RECORDING_SILENCE_S="4", CAPTURE_RECORDING_RENEW_HOURS=str(3 / 3600))
        session.wait(lambda status: status.reconnects == {Cause.LIFE: 1})
        session.kill()
        assert [event["connection"] for event in session.events("connection_ended")] == [1]


@pytest.mark.parametrize("market", ["spot", "um"])
def test_300_symbols_are_one_session(market: str, tmp_path: Path) -> None:
    """600 streams over valid addresses; the diffs of every book arrive, and no id is lost."""
    outcome = many_symbols(tmp_path, market, symbols=300, seconds=1, speed=0.2)
    assert (outcome.streams, outcome.refused, outcome.ids_lost) == (600, 0, 0)
    assert outcome.silent <= 300


def test_a_close_frame_is_obeyed_though_tcp_stays_open(tmp_path: Path) -> None:
    """The connection ends with the received code, and its successor delivers."""
    with live(tmp_path) as session:
        session.start(**PATIENT)
        session.recording()
        session.inject_fault("ws_close_half", session.connections()[0], code=1012)
        session.wait(lambda status: status.reconnects == {Cause.CLOSED: 1})
        session.recording()
        session.finish()
        assert [event["detail"] for event in session.events("connection_ended")][:1] == ["1012"]
        assert not session.gaps


@pytest.mark.parametrize(
    ("fault", "reason"), [("ws_silent", "another connection"), ("ws_half_open", "the answer to a ping")]
)
def test_a_connection_that_only_seems_to_be_there_is_replaced(
    fault: str, reason: str, tmp_path: Path
) -> None:
    """A silent connection next to a delivering one, and a single connection whose peer is gone."""
    count = 2 if fault == "ws_silent" else 1
    with live(tmp_path, connections=count) as session:
        session.start(CAPTURE_RECORDING_SILENCE_S="4")
        session.recording(count)
        session.inject_fault(fault, session.connections()[0])
        session.wait(lambda status: status.reconnects.get(Cause.SILENCE, 0) > 0)
        session.recording(count)
        session.finish()
        reasons = [
            event["detail"] for event in session.events("connection_ended") if event["cause"] == Cause.SILENCE
        ]
        assert reason in reasons[0]
        assert bool(session.gaps) == (count == 1)


def test_a_busy_market_that_falls_silent_on_every_connection_is_connected_to_again(tmp_path: Path) -> None:
    """The peer answers pings; only the known pauses of the market show the fault."""
    with live(tmp_path) as session:
        session.start(CAPTURE_RECORDING_SILENCE_S="0.8")
        session.recording()
        time.sleep(12)  # a hundred looks, eight in each 0.8 s
        session.inject_fault("ws_silent", "all")
        session.wait(lambda status: status.reconnects.get(Cause.SILENCE, 0) >= 2)
        session.recording()
        session.finish()
        assert {gap.cause for gap in session.gaps} == {Cause.SILENCE}
