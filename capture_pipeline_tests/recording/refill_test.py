"""Lost trades asked for again: what REST must bring back before a gap counts as filled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

from capture_pipeline.binance.rest import PAGE_ROWS, RestClient
from capture_pipeline.recording.ledger import Edge, Moment, gap_between
from capture_pipeline.recording.models import Cause, Gap
from capture_pipeline.recording.refill import refill

TRADES = "btcusdt@trade"
Range = tuple[int, int]


class PagesOfTrades:
    """The two calls of a REST client that a refill makes, answered from a list of aggregates."""

    def __init__(self, ranges: list[Range]) -> None:
        self._aggregates = [
            {"a": number, "p": "1.0", "q": "1.0", "f": low, "l": high, "T": 1_700_000_000_000 + number, "m": True}
            for number, (low, high) in enumerate(ranges)
        ]
        self.calls = 0

    def agg_trades(self, symbol: str, *, start_ms: int, end_ms: int) -> bytes:
        """The first page."""
        del symbol, start_ms, end_ms
        return self._page(0)

    def agg_trades_from(self, symbol: str, agg_id: int) -> bytes:
        """A later page."""
        del symbol
        return self._page(agg_id)

    def _page(self, first: int) -> bytes:
        self.calls += 1
        return json.dumps(self._aggregates[first : first + PAGE_ROWS]).encode()


def gap_of(last_good: int, first_good: int) -> Gap:
    edge = Edge(TRADES, last_good, first_good, Moment(10**18, 10**15), Moment(10**18 + 1, 10**15 + 1))
    return gap_between(edge, Cause.SILENCE, "")


@pytest.mark.parametrize(
    ("ranges", "is_filled"),
    [
        ([(11, 20)], True),
        ([(5, 12), (13, 13), (14, 25)], True),
        ([(11, 15), (17, 20)], False),
        ([(11, 19)], False),
        ([(12, 20)], False),
        ([(11, 11)], False),
        ([(1, 10), (21, 30)], False),
        ([], False),
    ],
)
def test_gap_is_filled_only_once_every_lost_id_came_back(ranges: list[Range], is_filled: bool, tmp_path: Path) -> None:
    """Ids 11 to 20 are lost; aggregates that have none of them are not written."""
    path = tmp_path / "refilled_trades.jsonl"
    assert refill(cast("RestClient", PagesOfTrades(ranges)), "BTCUSDT", gap_of(10, 21), path) is is_filled
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    assert [(line["agg"]["f"], line["agg"]["l"]) for line in lines] == [(low, high) for low, high in ranges if high > 10 and low < 21]
    assert {(line["stream"], line["first_lost"], line["last_lost"]) for line in lines} <= {(TRADES, 11, 20)}


def test_lost_ids_beyond_a_page_are_asked_for(tmp_path: Path) -> None:
    """Page after page until the last lost id is there."""
    rest = PagesOfTrades([(number, number) for number in range(1, 3 * PAGE_ROWS)])
    lost = gap_of(10, 2 * PAGE_ROWS + 10)
    assert refill(cast("RestClient", rest), "BTCUSDT", lost, tmp_path / "refilled_trades.jsonl")
    assert rest.calls == 3
