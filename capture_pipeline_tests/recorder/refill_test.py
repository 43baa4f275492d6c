"""Progress of one refill: requested pages, written lines, and the state of the gap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from capture_pipeline.binance.rest.client import PAGE_ROWS, RestClient
from capture_pipeline.errors import ProtocolViolationError
from capture_pipeline.recorder.background.trade_backfill import Refill, end_refill
from capture_pipeline.recorder.ordering.gap_tracker import GapBounds, MessageTime, gap_between
from capture_pipeline.sessions.models import Cause, Gap, RefillState

TRADES = "btcusdt@trade"
Range = tuple[int, int]


class PagesOfTrades:
    """The two REST calls of a refill, answered from a list of aggregates."""

    def __init__(self, ranges: list[Range]) -> None:
        self._aggregates = [
            {
                "a": number,
                "p": "1.0",
                "q": "1.0",
                "f": low,
                "l": high,
                "T": 1_700_000_000_000 + number,
                "m": True,
            }
            for number, (low, high) in enumerate(ranges)
        ]
        self.calls = self.calls_by_time = 0
        self.hidden = range(0)
        self.is_stuck = False

    def agg_trades(self, symbol: str, *, start_ms: int, end_ms: int) -> bytes:
        """Return the first page."""
        del symbol, start_ms, end_ms
        self.calls_by_time += 1
        return self._page(0)

    def agg_trades_from(self, symbol: str, agg_id: int) -> bytes:
        del symbol
        return self._page(0 if self.is_stuck else agg_id)

    def _page(self, first: int) -> bytes:
        self.calls += 1
        served = [
            each
            for each in self._aggregates[first : first + PAGE_ROWS + len(self.hidden)]
            if each["f"] not in self.hidden
        ]
        return json.dumps(served[:PAGE_ROWS]).encode()


def build_gap(last_good: int, first_good: int) -> Gap:
    edge = GapBounds(
        TRADES, last_good, first_good, MessageTime(10**18, 10**15), MessageTime(10**18 + 1, 10**15 + 1)
    )
    return gap_between(edge, Cause.SILENCE, "")


def run_refill(pages: PagesOfTrades, gap: Gap, path: Path) -> Refill:
    """Run one attempt, as in a new process."""
    refill = Refill(gap, path)
    refill.begin()
    while refill.has_next_page:
        refill.request_page(cast("RestClient", pages))
    return refill


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize(
    ("ranges", "ids_refilled"),
    [
        ([(11, 20)], 10),
        ([(5, 12), (13, 13), (14, 25)], 10),
        ([(11, 15), (17, 20)], 9),
        ([(11, 19)], 9),
        ([(12, 20)], 9),
        ([(11, 11)], 1),
        ([(1, 10), (21, 30)], 0),
        ([], 0),
    ],
)
def test_gap_is_complete_only_once_every_lost_id_came_back(
    ranges: list[Range], ids_refilled: int, tmp_path: Path
) -> None:
    """Ids 11 to 20 are lost; aggregates without any of them are not written."""
    path = tmp_path / "refilled_trades.jsonl"
    refill = run_refill(PagesOfTrades(ranges), build_gap(10, 21), path)
    assert (refill.ids_refilled, refill.is_complete) == (ids_refilled, ids_refilled == 10)
    lines = read_lines(path)
    assert [(line["agg"]["f"], line["agg"]["l"]) for line in lines] == [
        (low, high) for low, high in ranges if high > 10 and low < 21
    ]
    assert {(line["stream"], line["first_lost"], line["last_lost"]) for line in lines} <= {(TRADES, 11, 20)}
    ended = end_refill(build_gap(10, 21).model_copy(update={"refill": RefillState.PENDING}), path)
    state, filled_by = (RefillState.COMPLETE, path.name) if ids_refilled == 10 else (RefillState.ENDED, None)
    assert (ended.refill, ended.ids_refilled, ended.filled_by) == (state, ids_refilled, filled_by)


def test_lost_ids_beyond_a_page_are_asked_for(tmp_path: Path) -> None:
    """Pages are requested until the last lost id is returned."""
    rest = PagesOfTrades([(number, number) for number in range(1, 3 * PAGE_ROWS)])
    assert run_refill(rest, build_gap(10, 2 * PAGE_ROWS + 10), tmp_path / "refilled_trades.jsonl").is_complete
    assert rest.calls == 3


def test_long_gap_goes_on_after_200_pages(tmp_path: Path) -> None:
    """A day of a busy contract has two million aggregates."""
    rest = PagesOfTrades([(number, number) for number in range(1, 301 * PAGE_ROWS)])
    assert run_refill(
        rest, build_gap(10, 300 * PAGE_ROWS + 5), tmp_path / "refilled_trades.jsonl"
    ).is_complete
    assert rest.calls == 301


def test_later_attempt_requests_and_writes_only_what_is_lacking(tmp_path: Path) -> None:
    """A torn line is ignored, and a hole in the middle is requested without the later pages."""
    path = tmp_path / "refilled_trades.jsonl"
    whole = [(number, number) for number in range(1, 5 * PAGE_ROWS)]
    lost = build_gap(10, 4 * PAGE_ROWS)
    late = PagesOfTrades(whole[: PAGE_ROWS // 2])
    assert run_refill(late, lost, path).ids_refilled == PAGE_ROWS // 2 - 10
    with path.open("a") as file:
        file.write('{"stream":"btcusdt@trade","first_lo')
    holed = PagesOfTrades(whole)
    holed.hidden = range(2000, 2010)
    second = run_refill(holed, lost, path)
    assert (second.is_complete, second.ids_refilled) == (False, 4 * PAGE_ROWS - 11 - 10)
    holed.hidden, holed.calls = range(0), 0
    third = run_refill(holed, lost, path)
    assert (third.is_complete, holed.calls) == (True, 1)
    ids = [json.loads(line)["agg"]["f"] for line in path.read_text().splitlines() if line.endswith("}}")]
    assert sorted(ids) == list(range(11, 4 * PAGE_ROWS))


def test_aggregates_are_asked_for_by_id_without_a_time_window(tmp_path: Path) -> None:
    """Ids of aggregates are contiguous, and futures refuse windows that are older than two days."""
    rest = PagesOfTrades([(2 * number, 2 * number + 1) for number in range(2500)])
    edge = GapBounds("btcusdt@aggTrade", 10, 2100, MessageTime(10**18), MessageTime(10**18 + 1))
    assert run_refill(
        rest, gap_between(edge, Cause.SILENCE, ""), tmp_path / "refilled_trades.jsonl"
    ).is_complete
    assert (rest.calls, rest.calls_by_time) == (3, 0)


def test_page_that_does_not_advance_is_refused(tmp_path: Path) -> None:
    rest = PagesOfTrades([(number, number) for number in range(1, 3 * PAGE_ROWS)])
    rest.is_stuck = True
    with pytest.raises(ProtocolViolationError, match="begins at aggregate"):
        run_refill(rest, build_gap(10, 2 * PAGE_ROWS + 10), tmp_path / "refilled_trades.jsonl")
