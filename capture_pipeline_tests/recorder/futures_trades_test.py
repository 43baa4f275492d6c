"""Single trades of futures, recorded by a real process: ids that are not trades of the market."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from capture_pipeline.binance.streams.names import depth_stream, trade_stream
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.proof.prover import prove
from capture_pipeline.golden.proof.report import State
from capture_pipeline.golden.proof.trade_bars import is_market_trade
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.golden.validation.validator import validate
from capture_pipeline.tables.golden.trades import TRADES
from capture_pipeline_tests.support.exchange.process import exchange
from capture_pipeline_tests.support.sessions.recorder import BUSY, Live

pytestmark = pytest.mark.slow

CONTRACT = "BTCUSDT_250328"
MARKET = {"profile": "real_world", "frozen": False, "speed": 20, "symbols": [{**BUSY, "symbol": CONTRACT}]}
OTHERS = {"INSURANCE_FUND", "NA", "ADL"}
PUBLISHED = "2025-02-22T12:00:00Z"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Record a session of a delivery contract over whole minutes, with one of two connections cut."""
    root = tmp_path_factory.mktemp("futures-trades")
    with exchange(
        root, MARKET, CAPTURE_MARKET="um", CAPTURE_SYMBOLS=CONTRACT, CAPTURE_HTTP_READ_TIMEOUT_S="60"
    ) as sandbox:
        one = Live(sandbox, 600, [CONTRACT])
        one.plan(streams=[trade_stream(CONTRACT), depth_stream(CONTRACT)])
        one.start()
        try:
            one.recording(2)
            one.inject_fault("ws_cut", one.connections()[0])
            # Whole minutes of the market, of which twenty seconds are one.
            until_us = sandbox.deployment.now_us() + 200_000_000
            one.wait(lambda _: sandbox.deployment.now_us() > until_us)
            one.finish()
        finally:
            if one.process is not None and one.process.poll() is None:
                one.kill()
        sandbox.clock(now=PUBLISHED, speed=0)
        yield one


def trades_of(one: Live, root: Path) -> pl.DataFrame:
    """Read the trades in the tables of a session."""
    convert(one.folder.recording, one.folder.session, root)
    return GoldenTables(root, one.folder.session).scan(TRADES, CONTRACT).collect()


def test_orders_outside_the_market_are_recorded_without_a_hole(session: Live) -> None:
    """These trades have ids, so the recording is valid and the ledger stays empty."""
    assert not session.gaps
    verdicts = {check.spec.name: str(check.verdict) for check in validate(session.folder.path).checks}
    passed = (
        "line_form",
        "continuity",
        "overlaps",
        "seed",
        "streams",
        "ledger",
        "book_valid",
        "book_crossed",
    )
    assert {name: verdicts[name] for name in passed} == dict.fromkeys(passed, "PASS")


def test_orders_outside_the_market_are_in_the_table_and_in_no_bar(session: Live, tmp_path: Path) -> None:
    """`X` is stored, `NA` has price 0, and without them the trades equal the published trades and candles."""
    found = trades_of(session, tmp_path)
    kinds = set(found["order_type"])
    assert kinds == {"MARKET", *OTHERS}
    assert set(found.filter(pl.col("price_e8") == 0)["order_type"]) == {"NA"}
    assert (found["trade_id"].diff().drop_nulls() == 1).all()
    market = found.filter(is_market_trade(found))
    assert set(market["order_type"]) == {"MARKET"}
    proof = prove(session.sandbox.deployment, session.folder)
    assert proof.state is State.HOLDS
    assert proof.figures.trades_captured == proof.figures.trades_published == market.height > 500
    assert proof.figures.bars_compared >= 2
