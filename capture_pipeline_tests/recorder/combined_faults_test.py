"""A session and a backfill at the same time, with several faults of the exchange at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture_pipeline.sessions.models import RefillState
from capture_pipeline_tests.support.exchange.process import exchange
from capture_pipeline_tests.support.programs import OVER, command, limits
from capture_pipeline_tests.support.sessions.recorder import BUSY, Live

pytestmark = pytest.mark.slow

ARCHIVE = {
    market: f"data/{folder}/monthly/klines/BTCUSDT/1h/"
    for market, folder in (("spot", "spot"), ("um", "futures/um"))
}
ZIP = "BTCUSDT-1h-2025-01.zip"
PASSING = [
    {"fault": "status_408", "times": 1},
    {"fault": "status_400", "code": -1001, "times": 1},
    {"fault": "status_503", "times": 1},
]


@pytest.mark.parametrize(
    ("market", "trades", "connections"), [("spot", "btcusdt@trade", 2), ("um", "btcusdt@aggTrade", 4)]
)
def test_both_complete_and_every_id_is_accounted_for(
    market: str, trades: str, connections: int, tmp_path: Path
) -> None:
    """REST is late and has temporary errors, and zips are outdated.

    A ban is stated only in the body of the refusal and cuts every connection.
    """
    config = {"frozen": False, "speed": 20, "symbols": [BUSY], "ban_stated": "body", "rest_lag_s": 60}
    with exchange(tmp_path, config, CAPTURE_MARKET=market) as sandbox:
        session = Live(sandbox, 600, ["BTCUSDT"])
        session.start()
        session.recording(connections)
        sandbox.republish(ARCHIVE[market] + ZIP)
        sandbox.faults(
            {"fault": "stale_zip", "match": {"path": f"/data/*{ZIP}"}},
            *({**fault, "match": {"path": "*/aggTrades"}} for fault in PASSING),
            *({**fault, "match": {"path": "*/klines"}} for fault in PASSING),
        )
        limits(sandbox, {"status": 418, "seconds": 15})
        session.inject_fault("ws_cut", "all")
        session.wait(lambda status: OVER in status.paused)
        with command(
            sandbox, tmp_path / "told", "klines", "backfill", "--from", "2025-01", "--to", "2025-02"
        ) as backfill:
            assert backfill.end() == 0, backfill.output()
        session.recording(connections)
        session.wait(lambda status: status.refills.keys() == {RefillState.COMPLETE})
        refused = limits(sandbox)["refused"]
        assert refused["streams"] + refused["rest"] <= 2  # what was under way when the ban began
        assert sandbox.injected() >= len(PASSING) + 1
        session.finish()
        gap = next(gap for gap in session.gaps if gap.stream == trades)
        assert (gap.refill, gap.ids_refilled) == (RefillState.COMPLETE, gap.ids_lost)
        assert session.metadata.statistics["ids_lost"] == sum(gap.ids_lost for gap in session.gaps)
        with command(
            sandbox, tmp_path / "checked", "check", "--from", "2025-01", "--to", "2025-01"
        ) as checked:
            assert checked.end() == 0, checked.output()
