"""Progress of the refill of one gap: the lost ids that REST `aggTrades` returned, and the next page.

This module writes and reads the lines of `refilled_trades.jsonl`:
`{"stream":…,"first_lost":…,"last_lost":…,"agg":<the exchange's aggregate>}`.
The trades have no capture time, so they are not part of the recording. A gap of a trade stream counts trades,
and an aggregate covers the trades `f..l`. A gap of an aggregate stream counts aggregates (`a`).
`refill_requests.py` schedules the requests.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from capture_pipeline.binance.rest.client import PAGE_ROWS, RestClient
from capture_pipeline.binance.streams.messages import AggTrade
from capture_pipeline.binance.streams.names import StreamKind, kind_of, symbol_of
from capture_pipeline.errors import ProtocolViolationError
from capture_pipeline.parsing import PARSE_ERRORS, guard_parser
from capture_pipeline.recorder.storage.event_log import append_line
from capture_pipeline.sessions.continuity import IdRange
from capture_pipeline.sessions.models import Gap, RefillState

_SLACK_MS = 5_000
_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_one = msgspec.json.Decoder(AggTrade).decode


class _Line(msgspec.Struct):
    stream: str
    first_lost: int
    last_lost: int
    agg: AggTrade


_decode_line = msgspec.json.Decoder(_Line).decode


@dataclass(slots=True)
class _ReturnedRange:
    """Returned ids `low..high`; `agg_id` is the aggregate that contains `high`."""

    low: int
    high: int
    agg_id: int


class Refill:
    """Refill of one gap."""

    def __init__(self, gap: Gap, path: Path) -> None:
        """Start with the trades that an earlier process wrote.

        Args:
            gap: Gap of a trade stream or an aggregate stream.
            path: `refilled_trades.jsonl` of the session.

        Raises:
            OSError: `path` cannot be read.
        """
        self.gap, self._path = gap, path
        self._first, self._last = gap.last_good_id + 1, gap.first_good_id - 1
        self._is_of_aggregates = kind_of(gap.stream) is StreamKind.AGG_TRADE
        self._covered: list[_ReturnedRange] = []
        self._next_agg_id: int | None = None
        self.has_next_page = False
        if path.is_file():
            self._read(path)

    @property
    def returned_ranges(self) -> list[IdRange]:
        """Returned ids of the gap, sorted."""
        return [IdRange(each.low, each.high) for each in self._covered]

    @property
    def ids_refilled(self) -> int:
        """Count of returned ids of the gap."""
        return sum(each.high - each.low + 1 for each in self._covered)

    @property
    def is_complete(self) -> bool:
        """True if every lost id was returned."""
        return self.ids_refilled == self._last - self._first + 1

    def begin(self) -> None:
        """Start at the first missing id; then call `request_page` while `has_next_page` is true."""
        edge = self._covered[0] if self._covered and self._covered[0].low == self._first else None
        # Ids of aggregates are contiguous, so a gap of them needs no time window (futures: two days at most).
        self._next_agg_id = edge.agg_id + 1 if edge else self._first if self._is_of_aggregates else None
        self.has_next_page = not self.is_complete

    def request_page(self, rest: RestClient) -> None:
        """Request the next page and append its new trades to the file.

        Raises:
            CaptureError: The request fails, or the answer is not the requested page.
            OSError: The file cannot be written; the next call requests the same page again.
        """
        page = _page(self._request(rest))
        requested_id = self._next_agg_id
        if page and requested_id is not None and page[0].trade.agg_id < requested_id:
            raise ProtocolViolationError(
                f"the answer begins at aggregate {page[0].trade.agg_id}, not at {requested_id}",
                where=f"aggTrades {self.gap.stream}",
            )
        new = [each for each in page if not self._is_covered(*self._range(each.trade))]
        if new:
            append_line(self._path, "".join(self._line(each.raw) for each in new))
        for each in new:
            self._add(each.trade)
        if len(page) < PAGE_ROWS or self._is_covered(self._range(page[-1].trade).last + 1, self._last):
            self.has_next_page = False
        else:
            self._next_agg_id = page[-1].trade.agg_id + 1

    def _request(self, rest: RestClient) -> bytes:
        symbol = symbol_of(self.gap.stream)
        if self._next_agg_id is not None:
            return rest.agg_trades_from(symbol, self._next_agg_id)
        gap = self.gap
        # Times of the exchange's clock if they are known, because the local clock may differ.
        start_us, end_us = gap.start_event_us or gap.start_ns // 1000, gap.end_event_us or gap.end_ns // 1000
        return rest.agg_trades(
            symbol, start_ms=start_us // 1000 - _SLACK_MS, end_ms=end_us // 1000 + _SLACK_MS
        )

    def _line(self, raw: bytes) -> str:
        head = json.dumps(
            {"stream": self.gap.stream, "first_lost": self._first, "last_lost": self._last},
            separators=(",", ":"),
        )
        return f'{head[:-1]},"agg":{raw.decode()}}}\n'

    def _range(self, trade: AggTrade) -> IdRange:
        """Return the ids of an aggregate, in the unit of the gap's stream."""
        if self._is_of_aggregates:
            return IdRange(trade.agg_id, trade.agg_id)
        return IdRange(trade.first_id, trade.last_id)

    def _is_covered(self, low: int, high: int) -> bool:
        """Return whether every lost id in `low..high` was returned; true if none of them is lost."""
        low, high = max(low, self._first), min(high, self._last)
        at = bisect_right(self._covered, low, key=lambda each: each.low) - 1
        return low > high or (at >= 0 and high <= self._covered[at].high)

    def _add(self, trade: AggTrade) -> None:
        low, high = self._range(trade)
        low, high = max(low, self._first), min(high, self._last)
        if low > high:
            return
        start = bisect_right(self._covered, low, key=lambda each: each.low)
        if start and self._covered[start - 1].high >= low - 1:
            start -= 1
        end, added = start, _ReturnedRange(low, high, trade.agg_id)
        while end < len(self._covered) and self._covered[end].low <= added.high + 1:
            other = self._covered[end]
            newest = max(added, other, key=lambda each: each.high)
            added = _ReturnedRange(min(added.low, other.low), newest.high, newest.agg_id)
            end += 1
        self._covered[start:end] = [added]

    def _read(self, path: Path) -> None:
        with path.open("rb") as file:
            for text in file:
                try:
                    line = _decode_line(text)
                except PARSE_ERRORS:
                    continue  # the process was killed while it wrote this line
                if (line.stream, line.first_lost, line.last_lost) == (
                    self.gap.stream,
                    self._first,
                    self._last,
                ):
                    self._add(line.agg)


def end_refill(gap: Gap, refilled: Path) -> Gap:
    """Return the gap with the final state of its refill, from the lines of the file.

    Args:
        gap: Gap as listed in the ledger.
        refilled: `refilled_trades.jsonl` of the session.

    Raises:
        OSError: `refilled` cannot be read.
    """
    if gap.refill is not RefillState.PENDING:
        return gap
    refill = Refill(gap, refilled)
    state, filled_by = (
        (RefillState.COMPLETE, refilled.name) if refill.is_complete else (RefillState.ENDED, None)
    )
    return gap.model_copy(
        update={"refill": state, "ids_refilled": refill.ids_refilled, "filled_by": filled_by}
    )


class _SentTrade(NamedTuple):
    """An aggregate, and its bytes as sent."""

    trade: AggTrade
    raw: bytes


def _page(body: bytes) -> list[_SentTrade]:
    with guard_parser("REST", "is not a page of aggTrades", kind=ProtocolViolationError):
        body.decode()
        return [_SentTrade(_decode_one(raw), bytes(raw)) for raw in _decode(body)]
