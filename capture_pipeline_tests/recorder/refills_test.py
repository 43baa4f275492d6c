"""Refills of USD-M sessions: late trades, trades beyond the exchange's window, and restarts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from capture_pipeline.golden.proof.prover import prove
from capture_pipeline.golden.proof.report import State
from capture_pipeline.golden.proof.schedule import find_due_sessions
from capture_pipeline.recorder.state import session_state
from capture_pipeline.sessions.models import Gap, RefillState
from capture_pipeline_tests.support.exchange.process import exchange
from capture_pipeline_tests.support.sessions.recorder import BUSY, Live

pytestmark = pytest.mark.slow

AGG_TRADE = "btcusdt@aggTrade"
TRADES = {"match": {"path": "/fapi/v1/aggTrades"}}
CONNECTIONS = 4
HOUR_S = 3600


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Live]:
    """Start a recorder of futures in a market at twenty times the real speed."""
    config = {"frozen": False, "speed": 20, "symbols": [BUSY]}
    with exchange(tmp_path, config, CAPTURE_MARKET="um") as sandbox:
        one = Live(sandbox, 600, ["BTCUSDT"])
        try:
            one.start()
            one.recording(CONNECTIONS)
            yield one
        finally:
            if one.process is not None and one.process.poll() is None:
                one.kill()


def _gap(session: Live) -> Gap:
    """Return the only gap of the aggregates."""
    return next(gap for gap in session.gaps if gap.stream == AGG_TRADE)


def _requests(session: Live) -> list[str]:
    return [
        entry["query"] for entry in session.sandbox.requests() if entry["path"] == TRADES["match"]["path"]
    ]


def test_refill_is_repeated_until_late_trades_came(session: Live) -> None:
    """REST lags at first: the gap is pending, and it is complete once REST has the trades."""
    session.sandbox.faults({**TRADES, "fault": "rest_lag", "lag_s": 7200, "times": "always"})
    session.inject_fault("ws_reset", "all")
    session.wait(lambda _: any(not event["filled"] for event in session.events("refill")))
    pending = session.wait(lambda status: "pending" in status.refills).refills["pending"]
    assert (pending.gaps, pending.ids_refilled) == (1, 0)
    session.sandbox.faults()
    complete = session.wait(lambda status: "complete" in status.refills).refills["complete"]
    assert (complete.gaps, complete.ids_refilled) == (1, complete.ids_lost)
    session.finish()
    gap = _gap(session)
    assert (gap.refill, gap.ids_refilled, gap.filled_by) == (
        RefillState.COMPLETE,
        gap.ids_lost,
        "refilled_trades.jsonl",
    )
    assert all(query.startswith("symbol=BTCUSDT&fromId=") for query in _requests(session))


def test_refusal_for_good_is_left_to_the_archive_and_not_asked_again(session: Live) -> None:
    """After 50 hours the exchange answers -4166 once; the ledger has the refusal, and no request follows."""
    session.kill()
    session.sandbox.clock(advance_s=50 * HOUR_S)
    session.sandbox.forget_requests()
    session.start()
    session.wait(lambda status: RefillState.REFUSED in status.refills)
    assert len(_requests(session)) == 1
    session.kill()
    session.start()
    session.wait(lambda status: RefillState.COMPLETE in status.refills)
    ids = {gap.last_good_id: gap.refill for gap in session.gaps if gap.stream == AGG_TRADE}
    assert list(ids.values()) == [RefillState.REFUSED, RefillState.COMPLETE]
    assert f"fromId={min(ids) + 1}" not in " ".join(_requests(session)[1:])
    session.finish()
    assert [gap.refill for gap in session.gaps if gap.stream == AGG_TRADE] == [
        RefillState.REFUSED,
        RefillState.COMPLETE,
    ]
    _prove(session)


def _prove(session: Live) -> None:
    """Check that the lost ids wait for the daily files and are complete afterwards."""
    deployment, gap = session.sandbox.deployment, _gap(session)
    waiting = prove(deployment, session.folder)
    assert (waiting.state, waiting.gaps[0].waits_for, waiting.figures.lost_by_archive) == (
        State.WAITING,
        "BTCUSDT-aggTrades-2025-02-22.zip",
        0,
    )
    session.sandbox.clock(advance_s=48 * HOUR_S, speed=0)
    assert find_due_sessions(deployment.lake, [session.folder], deployment.now_us()).wanted == [
        session.folder.session
    ]
    (account,) = prove(deployment, session.folder).gaps
    assert (account.by_rest, account.by_archive, account.not_published) == (0, gap.ids_lost, 0)
    rows = pl.read_parquet(deployment.lake.refills(session.folder.session), hive_partitioning=False)
    assert rows["trade_id"].to_list() == list(range(gap.last_good_id + 1, gap.first_good_id))
    assert rows["trade_us"].is_sorted()
    assert find_due_sessions(deployment.lake, [session.folder], deployment.now_us()).wanted == []


def test_session_that_ends_first_leaves_the_rest_to_the_archive(session: Live) -> None:
    """The ledger of the finished session and its status agree."""
    session.sandbox.faults({**TRADES, "fault": "rest_lag", "lag_s": 7200, "times": "always"})
    session.inject_fault("ws_reset", "all")
    session.wait(lambda status: status.gaps == 2)
    session.finish()
    gap = _gap(session)
    assert (gap.refill, gap.ids_refilled, gap.filled_by) == (RefillState.ENDED, 0, None)
    status = session_state(session.folder)[1]
    assert status is not None
    assert {state: (count.gaps, count.ids_lost) for state, count in status.refills.items()} == {
        str(gap.refill): (1, gap.ids_lost)
    }
