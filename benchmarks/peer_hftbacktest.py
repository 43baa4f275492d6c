"""Peer: depths of hftbacktest with the same level updates; best prices are read after each message.

    .venv-bench-books/bin/python benchmarks/peer_hftbacktest.py roi|hashmap benchmarks/out/book_8000000.npz

A backtest also simulates latencies and orders, which are not used. One step of time contains one message,
which is the fastest method.
"""

from __future__ import annotations

import sys

import numpy as np
from hftbacktest import (
    BUY_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    LOCAL_EVENT,
    SELL_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
    ROIVectorMarketDepthBacktest,
)
from hftbacktest.types import event_dtype
from numba import njit, uint64
from stopwatch import serve

_TICK, _LOT, _STEP_NS = 0.01, 1e-8, 1_000_000
_MARGIN = 600_000


def main() -> None:
    """Run the stopwatch; the number is not used."""
    kind, path = sys.argv[1:]
    with np.load(path) as file:
        bounds, prices, lots = file["bounds"], file["prices"], file["lots"]
    events = _create_events(bounds, prices, lots)
    asset = (
        BacktestAsset()
        .data([events])
        .linear_asset(1.0)
        .constant_order_latency(0, 0)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
    )
    asset = asset.trading_value_fee_model(0, 0).tick_size(_TICK).lot_size(_LOT)
    if kind == "roi":
        asset = asset.roi_lb((int(prices.min()) - _MARGIN) * _TICK).roi_ub(
            (int(prices.max()) + _MARGIN) * _TICK
        )
    backtest_class = ROIVectorMarketDepthBacktest if kind == "roi" else HashMapMarketDepthBacktest
    backtests: list[object] = []

    def prepare() -> None:
        backtests.clear()
        backtests.append(backtest_class([asset]))

    def work(_: int) -> int:
        return int(_replay(backtests[0], bounds.shape[1]))

    _replay(backtest_class([asset]), 10)
    serve(work, prepare=prepare)


def _create_events(bounds: np.ndarray, prices: np.ndarray, lots: np.ndarray) -> np.ndarray:
    events = np.zeros(prices.size, event_dtype)
    message = np.repeat(np.arange(bounds.shape[1]), bounds[2] - bounds[0])
    is_bid = np.arange(prices.size) < np.repeat(bounds[1], bounds[2] - bounds[0])
    events["ev"] = DEPTH_EVENT | EXCH_EVENT | LOCAL_EVENT | np.where(is_bid, BUY_EVENT, SELL_EVENT)
    events["exch_ts"] = events["local_ts"] = (message + 1) * _STEP_NS
    events["px"], events["qty"] = prices * _TICK, lots * _LOT
    return events


@njit
def _replay(backtest, messages):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - compiled
    """Replay message after message; return a checksum of all best prices."""
    checksum = uint64(0xCBF29CE484222325)
    for message in range(messages):
        # The backtest starts at the first message: a whole step would include the second message.
        backtest.elapse(_STEP_NS if message else 1)
        depth = backtest.depth(0)
        if not message:
            continue
        checksum = (checksum ^ uint64(depth.best_bid_tick)) * uint64(0x100000001B3)
        checksum = (checksum ^ uint64(depth.best_ask_tick)) * uint64(0x100000001B3)
    return checksum >> uint64(1)


if __name__ == "__main__":
    main()
