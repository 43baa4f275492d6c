"""Recording of a session over midnight, for tests of the proof."""

from __future__ import annotations

from capture_pipeline.binance.periods import parse_time
from capture_pipeline_tests.support.sessions.recorder import BUSY, Live

MARKET = {"now": "2025-02-20T23:56:00Z", "symbols": [{**BUSY, "trades_per_day": 60_000}]}
AFTER_MIDNIGHT = "2025-02-21T00:02:20Z"
OVER, FIRST_OUT, BOTH_OUT = "2025-02-21T00:10:00Z", "2025-02-21T05:10:00Z", "2025-02-22T05:10:00Z"


def recorded(one: Live) -> Live:
    """Record and finish a session over midnight, then stop the market's clock."""
    one.start()
    one.recording()
    before, left_s = one.status(), (parse_time(AFTER_MIDNIGHT) - one.sandbox.deployment.now_us()) / 1e6
    # A jump of the clock skips nothing: the messages of the time between come as fast as they are read.
    one.sandbox.clock(now=AFTER_MIDNIGHT)
    one.wait(lambda status: before is not None and status.messages - before.messages > left_s * 10)
    one.finish()
    one.sandbox.clock(speed=0)
    return one
