"""Lost trades asked for again by REST `aggTrades`, into a file beside the recording: they have no capture time, so they are not of it.

A line of that file: `{"stream":…,"first_lost":…,"last_lost":…,"agg":<the exchange's aggregate>}`. What a stream of trades lost are trades,
and an aggregate names those it stands for (`f..l`); what a stream of aggregates lost are aggregates (`a`). A gap is filled once every lost
id came back.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from capture_pipeline.binance.messages import AggTrade
from capture_pipeline.binance.rest import PAGE_ROWS, RestClient
from capture_pipeline.binance.streams import StreamKind, kind_of
from capture_pipeline.errors import ProtocolViolation
from capture_pipeline.parsing import guard_parser
from capture_pipeline.recording.events import append_line
from capture_pipeline.recording.models import Gap

_SLACK_MS = 5_000
_MOST_PAGES = 200
_decode = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_one = msgspec.json.Decoder(AggTrade).decode


def refill(rest: RestClient, symbol: str, gap: Gap, path: Path) -> bool:
    """Fetch what a gap lost and append it.

    Args:
        rest: Whom to ask.
        symbol: Whose trades.
        gap: Of a stream of trades or of aggregates.
        path: File to append to.

    Returns:
        Whether every lost id came back.

    Raises:
        CaptureError: REST fails.
        OSError: The disk refuses.
    """
    first, last = gap.last_good_id + 1, gap.first_good_id - 1
    is_of_aggregates = kind_of(gap.stream) is StreamKind.AGG_TRADE
    found: dict[int, tuple[AggTrade, bytes]] = {}
    # By the exchange's clock where it is known: ours may differ.
    start_us, end_us = gap.start_event_us or gap.start_ns // 1000, gap.end_event_us or gap.end_ns // 1000
    page = _page(rest.agg_trades(symbol, start_ms=start_us // 1000 - _SLACK_MS, end_ms=end_us // 1000 + _SLACK_MS))
    for _ in range(_MOST_PAGES):
        for trade, raw in page:
            low, high = _range(trade, is_of_aggregates=is_of_aggregates)
            if high >= first and low <= last:
                found[trade.agg_id] = trade, raw
        if len(page) < PAGE_ROWS or _range(page[-1][0], is_of_aggregates=is_of_aggregates)[1] >= last:
            break
        page = _page(rest.agg_trades_from(symbol, page[-1][0].agg_id + 1))
    ordered = [found[agg_id] for agg_id in sorted(found)]
    for _, raw in ordered:
        head = json.dumps({"stream": gap.stream, "first_lost": first, "last_lost": last}, separators=(",", ":"))
        append_line(path, f'{head[:-1]},"agg":{raw.decode()}}}\n')
    return _covers([_range(trade, is_of_aggregates=is_of_aggregates) for trade, _ in ordered], first, last)


def _page(body: bytes) -> list[tuple[AggTrade, bytes]]:
    with guard_parser("REST", "is no page of aggTrades", kind=ProtocolViolation):
        body.decode()
        return [(_decode_one(raw), bytes(raw)) for raw in _decode(body)]


def _range(trade: AggTrade, *, is_of_aggregates: bool) -> tuple[int, int]:
    """First and last id that an aggregate brings back, counted as the stream of the gap counts."""
    return (trade.agg_id, trade.agg_id) if is_of_aggregates else (trade.first_id, trade.last_id)


def _covers(ranges: list[tuple[int, int]], first: int, last: int) -> bool:
    following = first
    for low, high in ranges:
        if low > following:
            return False
        following = max(following, high + 1)
    return following > last
