"""Detection of market and venue of a recording from its URLs, messages and file names, without defaults.

Sources: the documentation of the exchange about hosts and event fields.

- Diffs: only futures have `pu`, and only COIN-M has `ps`.
- Trades: only futures have `X`; only trades and aggregate trades of spot have `M`.
- Best prices: only futures have `e`.
- REST books: only futures have `T`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlsplit

from capture_pipeline.binance.streams.names import StreamKind, kind_of, symbol_of
from capture_pipeline.errors import ConfigError, MalformedDataError
from capture_pipeline.parsing import PARSE_ERRORS

SPOT, UM, CM = "spot", "um", "cm"
MARKETS = (SPOT, UM, CM)
BINANCE = "binance"
_LOOKED_AT = 3
"""Number of messages to inspect, per stream and file."""
_VENUE = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_COIN_MARGINED = re.compile(r".+USD_(?:PERP|[0-9]{6})")
_BINANCE_HOST = re.compile(r"(?:([a-z0-9-]+)\.)?(?:.+\.)?(?:binance\.(com|vision)|(binancefuture)\.com)")
_OTHER_BINANCE_HOST = re.compile(r"(?:.+\.)?(binance\.[a-z]{2,3})")
_HOST_MARKETS = {
    "fstream": UM,
    "fapi": UM,
    "dstream": CM,
    "dapi": CM,
    "stream": SPOT,
    "data-stream": SPOT,
    "data-api": SPOT,
    "api": SPOT,
}
_HEAD_BYTES = 300
_FUTURES_MARKS = (
    (StreamKind.DEPTH, b"pu"),
    (StreamKind.TRADE, b"X"),
    (StreamKind.BOOK_TICKER, b"e"),
    (StreamKind.SNAPSHOT, b"T"),
)
_FUTURES_TOPICS = ("markPrice", "forceOrder", "depth@0ms")
_CRYPTOFEED_NAME = re.compile(r"(BINANCE(?:_[A-Z]+)?)(?:\.(?:ws|http))?\.")
_CRYPTOFEED_NAMES = {
    "BINANCE": (SPOT, BINANCE),
    "BINANCE_FUTURES": (UM, BINANCE),
    "BINANCE_DELIVERY": (CM, BINANCE),
    "BINANCE_US": (SPOT, "binance.us"),
    "BINANCE_TR": (SPOT, "binance.tr"),
    "BINANCE_JERSEY": (SPOT, "binance.je"),
}


class _Reason(NamedTuple):
    """Evidence of a market or a venue, and its place."""

    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where} ({self.why})"


@dataclass(slots=True)
class Evidence:
    """Evidence of market and venue.

    Attributes:
        markets: First evidence by market.
        venues: First evidence by venue.
        strangers: Hosts that do not belong to Binance.
    """

    markets: dict[str, _Reason] = field(default_factory=dict)
    venues: dict[str, _Reason] = field(default_factory=dict)
    strangers: dict[str, None] = field(default_factory=dict)
    _looked_at: dict[tuple[str, str], int] = field(default_factory=dict)

    def add_market(self, market: str, where: str, why: str) -> None:
        """Store evidence of a market."""
        self.markets.setdefault(market, _Reason(where, why))

    def add_venue(self, venue: str, where: str, why: str) -> None:
        """Store evidence of a venue."""
        self.venues.setdefault(venue, _Reason(where, why))

    def inspect_url(self, url: str, where: str) -> None:
        """Inspect the URL of a stream or of a REST request."""
        host = (_host(url) or "").lower()
        if found := _BINANCE_HOST.fullmatch(host):
            is_test = "testnet" in host or bool(found[3])
            self.add_venue("binance-testnet" if is_test else BINANCE, where, host)
            label = re.sub(r"^(api)(?:\d|-gcp)$", r"\1", found[1] or "")
            if market := _HOST_MARKETS.get(label):
                self.add_market(market, where, host)
        elif found := _OTHER_BINANCE_HOST.fullmatch(host):
            self.add_venue(found[1], where, host)
            self.add_market(SPOT, where, host)
        elif host:
            self.strangers[host] = None

    def inspect_file_name(self, name: str) -> None:
        """Derive market and venue from a file name of cryptofeed, which begins with the exchange."""
        found = _CRYPTOFEED_NAME.match(name)
        if found and found[1] in _CRYPTOFEED_NAMES:
            market, venue = _CRYPTOFEED_NAMES[found[1]]
            self.add_market(market, name, "its name")
            self.add_venue(venue, name, "its name")

    def inspect_message(self, file: str, stream: str, data: bytes) -> None:
        """Inspect a message if it is one of the first of its stream in the file."""
        seen = self._looked_at.get((file, stream), 0)
        if seen >= _LOOKED_AT:
            return
        self._looked_at[file, stream] = seen + 1
        if found := _market_of(stream, data):
            self.add_market(found.market, file, found.why)

    @property
    def only_market(self) -> str:
        """The market, after `decide`."""
        return next(iter(self.markets))

    @property
    def only_venue(self) -> str:
        """The venue, after `decide`."""
        return next(iter(self.venues))

    def decide(self, where: str, market: str | None, venue: str | None) -> None:
        """Decide on one market and one venue.

        Args:
            where: The files, for error messages.
            market: Market given by the user; None to use the data only.
            venue: Venue given by the user; None to use the data only.

        Raises:
            MalformedDataError: The evidence is contradictory, or contradicts the user.
            ConfigError: There is no evidence of the market or the venue.
        """
        given = "given as an option"
        if market:
            self.add_market(market, "--market", given)
        if venue:
            self.add_venue(venue, "--venue", given)
        hosts = f"; the host {', '.join(self.strangers)} is unknown" if self.strangers else ""
        _check_single("market", self.markets, where, f"name it with --market {', '.join(MARKETS)}", "")
        _check_single(
            "venue",
            self.venues,
            where,
            "name it with --venue, for instance --venue binance or binance.us",
            hosts,
        )


def valid_venue(text: str) -> str:
    """Return `text` if it is a valid name of a venue.

    Raises:
        ConfigError: The text is not a valid name.
    """
    if not _VENUE.fullmatch(text):
        raise ConfigError(
            f"{text!r} is not a valid name of a venue",
            remedy="use small letters, digits, dots, _ and -, for instance binance.us",
        )
    return text


def _check_single(what: str, reasons: dict[str, _Reason], where: str, remedy: str, hint: str) -> None:
    if not reasons:
        raise ConfigError(f"neither URLs nor messages show the {what}{hint}", where=where, remedy=remedy)
    if len(reasons) > 1:
        text = ", ".join(f"{value} by {reason}" for value, reason in reasons.items())
        raise MalformedDataError(
            f"the {what} is contradictory: {text}",
            where=where,
            remedy=f"import the files of each {what} separately",
        )


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except PARSE_ERRORS:
        return None


class _MarketMark(NamedTuple):
    """Market of a message, and the evidence."""

    market: str
    why: str


def _market_of(stream: str, data: bytes) -> _MarketMark | None:
    """Return the market of a message; None if the message looks the same in all markets."""
    kind, topic = kind_of(stream), stream.partition("@")[2]
    mark = next(
        (name for of, name in _FUTURES_MARKS if of is kind and b'"%b":' % name in data[:_HEAD_BYTES]), b""
    )
    if mark or topic.startswith(_FUTURES_TOPICS):
        is_coin = (
            bool(_COIN_MARGINED.fullmatch(symbol_of(stream)))
            or b'"ps":' in data
            or b'"pair":' in data[:_HEAD_BYTES]
        )
        why = f"{mark.decode()} in {stream}" if mark else stream
        return _MarketMark(CM if is_coin else UM, why)
    if kind is StreamKind.DEPTH:
        return _MarketMark(SPOT, f"no pu in {stream}")
    if kind in {StreamKind.TRADE, StreamKind.AGG_TRADE} and b'"M":' in data:
        return _MarketMark(SPOT, f"M in {stream}")
    return _MarketMark(UM, f"no M in {stream}") if kind is StreamKind.AGG_TRADE else None
