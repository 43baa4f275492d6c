"""Record of a preflight: one request of each kind, and a JSON file next to the sessions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from capture_pipeline.binance.periods import MINUTE_US, SECOND_US, Interval, iso
from capture_pipeline.binance.streams.names import list_streams
from capture_pipeline.deployment.rest_client import create_http, create_rest_client
from capture_pipeline.errors import CaptureError, PermanentError
from capture_pipeline.lake.files import publish_bytes
from capture_pipeline.recorder.connections.connection import Connection
from capture_pipeline.recorder.preflight.observations import (
    MAX_ENTRIES,
    MAX_TEXT,
    FrameRecord,
    RestRecord,
    connection_document,
    join_entries,
)
from capture_pipeline.sessions.layout import format_stamp, symbols_label
from capture_pipeline.settings.models import Settings

FOLDER = "preflight"


@dataclass(frozen=True)
class Note:
    """Observation of the exchange for the report.

    Attributes:
        name: Subject.
        text: Observed values.
    """

    name: str
    text: str


class ExchangeRecord:
    """Observations of one preflight.

    Attributes:
        rest: REST client that does not wait during a pause, to measure answer times.
        frames: Messages of the test capture.
    """

    def __init__(self, settings: Settings, symbols: list[str]) -> None:
        """Start without observations."""
        self._settings, self._symbols = settings, symbols
        self._answers = RestRecord(settings.market)
        http = create_http(settings, self._answers.note)
        self.rest, self._waiting_rest = (
            create_rest_client(settings, http, max_wait_s=0.0),
            create_rest_client(settings, http),
        )
        self.frames = FrameRecord(settings.market, list_streams(symbols, settings.market))
        self._connections: list[dict[str, Any]] = []
        self._statuses: dict[str, str] = {}
        self._refusals: list[str] = []

    def send_each_request(self) -> None:
        """Send one request of each kind that recordings and backfills send; a refusal is recorded.

        Nothing is sent if the exchange has not answered any request before.
        """
        if not self._answers.requests:
            return
        symbol, rest = self._symbols[0], self._waiting_rest

        def ask_klines() -> None:
            now_us = rest.server_time_us()
            rest.klines(symbol, Interval.M1, now_us - 60 * MINUTE_US, now_us)

        def ask_agg_trades() -> None:
            now_ms = rest.server_time_us() // 1000
            rest.agg_trades(symbol, start_ms=now_ms - 60_000, end_ms=now_ms)

        requests: list[Callable[[], object]] = [
            self._ask_statuses,
            ask_klines,
            lambda: rest.edge_klines(symbol, Interval.M1, first=True),
            lambda: rest.depth(symbol, self._settings.recording.snapshot_limit),
            ask_agg_trades,
        ]
        for ask in requests:
            try:
                ask()
            except CaptureError as error:
                self._refusals.append(str(error)[:MAX_TEXT])
                if not isinstance(error, PermanentError):
                    return

    def note_connections(self, urls: list[str], connections: list[Connection]) -> None:
        """Record the connections of the test capture after their end."""
        self._connections = [
            connection_document(*each, self._settings.market) for each in zip(urls, connections, strict=True)
        ]

    def notes(self) -> Iterator[Note]:
        """Yield observations for the report; the texts are escaped and cut."""
        answers = self._answers
        counts = {
            name: "/".join(f"{status} x{count}" for status, count in seen["statuses"].items())
            for name, seen in answers.requests.items()
        }
        yield Note("answers", join_entries(counts))
        if self._refusals:
            yield Note("refusals", join_entries(self._refusals))
        retry_after = [f"{each['status']}: {each['value']}" for each in answers.retry_after]
        yield Note(
            "headers",
            f"of limits: {join_entries(answers.weight_headers)}; Retry-After: {join_entries(retry_after)}",
        )
        yield Note("weights", f"other than expected: {join_entries(answers.unexpected_weights)}")
        yield Note("statuses", join_entries(Counter(self._statuses.values())))
        streams = self.frames.streams
        unknown = {
            name: "/".join(seen.unknown_fields) for name, seen in streams.items() if seen.unknown_fields
        }
        yield Note("fields", f"unknown: {join_entries(unknown)}")
        holes = {
            name: f"{seen.holes.count} of {seen.holes.ids} ids"
            for name, seen in streams.items()
            if seen.holes.count
        }
        yield Note("id holes", join_entries(holes))
        yield Note(
            "close notices",
            f"{join_entries(self.frames.shutdowns)}; other messages: {join_entries(self.frames.others)}",
        )
        yield Note("connections", join_entries([_connection_text(seen) for seen in self._connections]))

    def publish(self, root: Path) -> Path:
        """Write the record below the folder of sessions.

        Returns:
            The path of the record.

        Raises:
            StorageError: The record cannot be written.
        """
        now_us = time.time_ns() // 1000
        path = (
            root
            / FOLDER
            / f"{format_stamp(now_us)}-{now_us % SECOND_US:06d}_{symbols_label(self._symbols)}.json"
        )
        publish_bytes(
            path, msgspec.json.format(msgspec.json.encode(self._document(now_us)), indent=1) + b"\n"
        )
        return path

    def _document(self, now_us: int) -> dict[str, Any]:
        settings, answers = self._settings, self._answers
        return {
            "time": iso(now_us),
            "venue": settings.venue,
            "market": str(settings.market),
            "symbols": self._symbols,
            "requests": answers.requests,
            "refusals": self._refusals,
            "headers": answers.headers,
            "retry_after": answers.retry_after,
            "statuses": {
                "counts": dict(
                    Counter(status[:MAX_TEXT] for status in self._statuses.values()).most_common(MAX_ENTRIES)
                ),
                "symbols": {name: self._statuses.get(name, "")[:MAX_TEXT] for name in self._symbols},
            },
            "connections": self._connections,
            "streams": {name: seen.document for name, seen in self.frames.streams.items()},
            "close_notices": self.frames.shutdowns,
            "other_messages": self.frames.others,
        }

    def _ask_statuses(self) -> None:
        self._statuses = self._waiting_rest.symbol_statuses()


def _connection_text(seen: dict[str, Any]) -> str:
    between = seen["ping_intervals_s"]
    every = f", {min(between)} to {max(between)} s apart" if between else ""
    return f"HTTP {seen['status']}, pings {seen['pings']}{every}"
