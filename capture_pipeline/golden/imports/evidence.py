"""Which market and venue a foreign recording is of: what its URLs, its messages and its files' names say, never a default.

Sources: the exchange's documentation of its hosts and of the fields of its events. Only futures diffs carry `pu`, and of them only those
of COIN-M `ps`; only futures trades carry `X`, only spot's trades and aggregates `M`; only futures' best prices carry `e`, and only their
REST books `T`.
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
"""Messages of each stream of each file that are looked at."""
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


class _Said(NamedTuple):
    """One thing that says it, and where."""

    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.where} ({self.why})"


@dataclass(slots=True)
class Evidence:
    """What was found.

    Attributes:
        markets: The first thing that says it, by market.
        venues: The first thing that says it, by venue.
        strangers: Hosts that are none of Binance.
    """

    markets: dict[str, _Said] = field(default_factory=dict)
    venues: dict[str, _Said] = field(default_factory=dict)
    strangers: dict[str, None] = field(default_factory=dict)
    _looked_at: dict[tuple[str, str], int] = field(default_factory=dict)

    def market(self, market: str, where: str, why: str) -> None:
        """Keep what says a market."""
        self.markets.setdefault(market, _Said(where, why))

    def venue(self, venue: str, where: str, why: str) -> None:
        """Keep what says a venue."""
        self.venues.setdefault(venue, _Said(where, why))

    def url(self, url: str, where: str) -> None:
        """Look at the address of a stream or of a REST call."""
        host = (_host(url) or "").lower()
        if found := _BINANCE_HOST.fullmatch(host):
            is_test = "testnet" in host or bool(found[3])
            self.venue("binance-testnet" if is_test else BINANCE, where, host)
            label = re.sub(r"^(api)(?:\d|-gcp)$", r"\1", found[1] or "")
            if market := _HOST_MARKETS.get(label):
                self.market(market, where, host)
        elif found := _OTHER_BINANCE_HOST.fullmatch(host):
            self.venue(found[1], where, host)
            self.market(SPOT, where, host)
        elif host:
            self.strangers[host] = None

    def file_name(self, name: str) -> None:
        """Look at the name that cryptofeed gives its files: the exchange, the kind of connection, a number."""
        found = _CRYPTOFEED_NAME.match(name)
        if found and found[1] in _CRYPTOFEED_NAMES:
            market, venue = _CRYPTOFEED_NAMES[found[1]]
            self.market(market, name, "its name")
            self.venue(venue, name, "its name")

    def message(self, file: str, stream: str, data: bytes) -> None:
        """Look at a message, if it is one of the first of its stream in its file."""
        seen = self._looked_at.get((file, stream), 0)
        if seen >= _LOOKED_AT:
            return
        self._looked_at[file, stream] = seen + 1
        if found := _market_of(stream, data):
            self.market(found[0], file, found[1])

    @property
    def only_market(self) -> str:
        """The market, once it is settled."""
        return next(iter(self.markets))

    @property
    def only_venue(self) -> str:
        """The venue, likewise."""
        return next(iter(self.venues))

    def decide(self, where: str, market: str | None, venue: str | None) -> None:
        """Settle market and venue: one of each remains.

        Args:
            where: The files.
            market: What the user says; None leaves it to the data.
            venue: Likewise.

        Raises:
            MalformedDataError: What was found is contradictory, or contradicts the user.
            ConfigError: Nothing says it.
        """
        given = "given as an option"
        if market:
            self.market(market, "--market", given)
        if venue:
            self.venue(venue, "--venue", given)
        hosts = f"; its host {', '.join(self.strangers)} is none that is known" if self.strangers else ""
        _check_single("market", self.markets, where, f"name it with --market {', '.join(MARKETS)}", "")
        _check_single(
            "venue",
            self.venues,
            where,
            "name it with --venue, for instance --venue binance or binance.us",
            hosts,
        )


def valid_venue(text: str) -> str:
    """`text` itself, if it can name a venue.

    Raises:
        ConfigError: It cannot.
    """
    if not _VENUE.fullmatch(text):
        raise ConfigError(
            f"{text!r} is no venue", remedy="small letters, digits, dots, _ and -, for instance binance.us"
        )
    return text


def _check_single(what: str, said: dict[str, _Said], where: str, remedy: str, hint: str) -> None:
    if not said:
        raise ConfigError(f"neither URLs nor messages tell the {what}{hint}", where=where, remedy=remedy)
    if len(said) > 1:
        told = ", ".join(f"{value} by {reason}" for value, reason in said.items())
        raise MalformedDataError(
            f"the {what} is contradictory: {told}",
            where=where,
            remedy=f"import the files of each {what} by themselves",
        )


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except PARSE_ERRORS:
        return None


def _market_of(stream: str, data: bytes) -> tuple[str, str] | None:
    """The market that a message is of, and what says it; None where its form is the same in all."""
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
        return (CM if is_coin else UM), f"{mark.decode()} in {stream}" if mark else stream
    if kind is StreamKind.DEPTH:
        return SPOT, f"no pu in {stream}"
    if kind in {StreamKind.TRADE, StreamKind.AGG_TRADE} and b'"M":' in data:
        return SPOT, f"M in {stream}"
    return (UM, f"no M in {stream}") if kind is StreamKind.AGG_TRADE else None
