"""Record of what a preflight observes at the exchange, with the expectations of `docs/exchange.md`.

The record answers questions that no document answers: names of headers, request weights as they are counted,
holes in ids, undocumented fields, the form of pings and of announced closes. Every number of entries is
bounded, and texts of the exchange are cut. This module opens no connection and no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from capture_pipeline.binance.http.refusals import parse_date
from capture_pipeline.binance.rest.limiter import USED_WEIGHT_HEADER
from capture_pipeline.binance.streams.names import FIELDS, PING_EVERY_S, StreamKind, is_close_notice, kind_of
from capture_pipeline.binance.urls import Market, request_weight
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.parsing import PARSE_ERRORS, parse_count
from capture_pipeline.printable import printable
from capture_pipeline.recorder.connections.connection import Connection
from capture_pipeline.recorder.ordering.message_ids import ids_of
from capture_pipeline.sessions.continuity import IdRange
from capture_pipeline.sessions.line_format import split_message

MAX_ENTRIES = 100
"""Largest count of entries in one list or table of the record."""
MAX_TEXT = 300
"""Largest count of characters in one text of the exchange."""
_MAX_EXAMPLES = 10
_VALUES = ("X", "st", "ps")
"""Fields whose values are counted: order type, market, and pair."""
_RETRY_AFTER = "retry-after"
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_FAILURES: tuple[type[Exception], ...] = (KeyError, MalformedDataError, *PARSE_ERRORS)


@dataclass
class RestRecord:
    """Answers of REST.

    Attributes:
        requests: Counts of statuses, expected and observed weights, by request.
        headers: Last value of each header, by name in lower case.
        retry_after: Values of `Retry-After` with the status of their answer.
    """

    market: Market
    requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    retry_after: list[dict[str, Any]] = field(default_factory=list)
    _used: int | None = None
    _minute: int | None = None

    def note(self, url: str, status: int, headers: Mapping[str, str]) -> None:
        """Record the answer to a request; `url` contains its parameters."""
        parts = urlsplit(url)
        endpoint, limit = parts.path.rpartition("/")[2], dict(parse_qsl(parts.query)).get("limit")
        name = f"GET {parts.path}" + (f" limit={limit}" if limit else "")
        if name not in self.requests and len(self.requests) >= MAX_ENTRIES:
            return
        new: dict[str, Any] = {
            "statuses": Counter(),
            "weight_expected": self._expected(endpoint, limit),
            "weights_seen": Counter(),
        }
        seen = self.requests.setdefault(name[:MAX_TEXT], new)
        seen["statuses"][str(status)] += 1
        used = parse_count(headers.get(USED_WEIGHT_HEADER, ""))
        minute = _minute_of(headers)
        # The exchange resets the count each minute, so only a difference within one minute is a weight.
        if (
            used is not None
            and self._used is not None
            and used > self._used
            and minute is not None
            and minute == self._minute
        ):
            _count(seen["weights_seen"], str(used - self._used))
        self._used, self._minute = used, minute
        for header, value in headers.items():
            _keep_header(self.headers, header, value)
            if header.lower() == _RETRY_AFTER and len(self.retry_after) < MAX_ENTRIES:
                self.retry_after.append({"status": status, "value": value[:MAX_TEXT]})

    def _expected(self, endpoint: str, limit: str | None) -> int | None:
        """Return the documented weight, or None for a request that a redirect changed."""
        try:
            return request_weight(self.market, endpoint, limit)
        except (KeyError, ValueError):
            return None

    @property
    def unexpected_weights(self) -> dict[str, str]:
        """Observed weights that differ from the expected ones; other programs at the address add to them."""
        found = {}
        for name, seen in self.requests.items():
            others = [weight for weight in seen["weights_seen"] if weight != str(seen["weight_expected"])]
            if others:
                found[name] = f"{', '.join(others)} seen, {seen['weight_expected']} expected"
        return found

    @property
    def weight_headers(self) -> list[str]:
        """Names of headers that state a weight or a limit."""
        return sorted(name for name in self.headers if "weight" in name or "limit" in name)


def _minute_of(headers: Mapping[str, str]) -> int | None:
    """Return the exchange's minute since 1970.

    None without `Date`. None also within a second of the end of a minute, because `Date` may be a second old.
    """
    date_s = parse_date(headers)
    if date_s is None or date_s % 60 in (0, 59):
        return None
    return int(date_s // 60)


@dataclass
class IdHoles:
    """Jumps of ids: their number, the ids in them, and some of the ranges."""

    count: int = 0
    ids: int = 0
    examples: list[IdRange] = field(default_factory=list)


@dataclass
class StreamRecord:
    """Messages of one stream.

    Attributes:
        expected: Fields that the documents name.
        unknown_fields: First value of each other field.
        values: Counts of values of `X`, `st` and `ps`, and of aggregates whose `nq` is not `q`.
        holes: Jumps of ids within one connection.
    """

    kind: StreamKind
    expected: tuple[str, ...]
    messages: int = 0
    fields: Counter[str] = field(default_factory=Counter)
    unknown_fields: dict[str, str] = field(default_factory=dict)
    values: dict[str, Counter[str]] = field(default_factory=dict)
    holes: IdHoles = field(default_factory=IdHoles)
    _last: int | None = None

    def take(self, data: bytes) -> None:
        """Record a message.

        Raises:
            ValueError: The data are not a message of this stream; other `parsing.PARSE_ERRORS` are possible.
        """
        found, ids = _decode(data), ids_of(self.kind, data)
        self.messages += 1
        for name, value in found.items():
            _count(self.fields, name[:MAX_TEXT])
            if name not in self.expected:
                _keep(self.unknown_fields, name, bytes(value).decode("utf-8", "backslashreplace"))
        for name in _VALUES:
            if name in found:
                _count(
                    self.values.setdefault(name, Counter()),
                    bytes(found[name]).decode("utf-8", "backslashreplace")[:MAX_TEXT],
                )
        if "nq" in found:
            _count(
                self.values.setdefault("nq", Counter()),
                "equal to q" if found["nq"] == found.get("q") else "other than q",
            )
        if ids is not None:
            self._place(ids.first, ids.last)

    def _place(self, first: int, last: int) -> None:
        if self._last is not None and first > self._last + 1:
            self.holes.count += 1
            self.holes.ids += first - self._last - 1
            if len(self.holes.examples) < _MAX_EXAMPLES:
                self.holes.examples.append(IdRange(self._last + 1, first - 1))
        self._last = last if self._last is None else max(last, self._last)

    @property
    def document(self) -> dict[str, Any]:
        """Observations as JSON."""
        missing = [name for name in self.expected if self.fields[name] < self.messages]
        seen = {
            "messages": self.messages,
            "fields": self.fields,
            "unknown_fields": self.unknown_fields,
            "missing_fields": missing,
        }
        return {**seen, "values": self.values, "id_holes": asdict(self.holes)}


class FrameRecord:
    """Messages of all streams of a test capture.

    Attributes:
        streams: Record of each stream, by name.
        shutdowns: Received messages that announce a close.
        others: Received messages of other streams, and damaged ones.
    """

    def __init__(self, market: Market, streams: list[str]) -> None:
        """Start without messages."""
        self.streams = {
            name: StreamRecord(kind_of(name), FIELDS.get((market, kind_of(name)), ())) for name in streams
        }
        self.shutdowns: list[str] = []
        self.others: list[str] = []

    def take(self, raw: bytes) -> None:
        """Record a received message of the combined stream."""
        try:
            message = split_message(raw)
            self.streams[message.stream.decode()].take(message.data)
        except _FAILURES:
            kept = self.shutdowns if is_close_notice(raw) else self.others
            if len(kept) < _MAX_EXAMPLES:
                kept.append(raw[:MAX_TEXT].decode("utf-8", "backslashreplace"))


def connection_document(url: str, connection: Connection, market: Market) -> dict[str, Any]:
    """Describe one connection as JSON."""
    answer = connection.answer
    kept: dict[str, str] = {}
    for name, value in answer.headers.items() if answer else ():
        _keep_header(kept, name, value)
    pings = list(connection.pings_s)
    between = [round(after - before, 1) for before, after in pairwise(pings)]
    seen = {
        "url": url.partition("?")[0],
        "status": answer.status if answer else None,
        "headers": kept,
        "end": connection.detail[:MAX_TEXT],
    }
    return {
        **seen,
        "pings": len(pings),
        "ping_intervals_s": between,
        "ping_interval_expected_s": PING_EVERY_S[market],
    }


def join_entries(entries: Mapping[str, object] | list[str]) -> str:
    """Join entries into one line for people; `none` if there are none."""
    texts = (
        [f"{name} {value}" for name, value in entries.items()] if isinstance(entries, Mapping) else entries
    )
    return printable(", ".join(texts)) if texts else "none"


def _keep_header(table: dict[str, str], name: str, value: str) -> None:
    """Store a header by its lower-case name, without the value of a cookie: the record may be shared."""
    _keep(table, name.lower(), "" if name.lower() == "set-cookie" else value)


def _keep(table: dict[str, str], name: str, value: str) -> None:
    """Store the value of a name; the number of names is bounded."""
    if name in table or len(table) < MAX_ENTRIES:
        table[name[:MAX_TEXT]] = value[:MAX_TEXT]


def _count(table: Counter[str], name: str) -> None:
    if name in table or len(table) < MAX_ENTRIES:
        table[name] += 1
