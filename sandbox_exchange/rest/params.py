"""Parameters of REST requests and the exchange's errors about them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.urls import Market
from sandbox_exchange.constants import INTERVALS

LEGAL_SYMBOL = r"[\w\-._&&[^a-z]]{1,50}"
"""The characters of a symbol in the exchange's notation."""
_LEGAL = re.compile(r"(?:[^\Wa-z]|[-.]){1,50}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_US_FROM = 10**14


class RestError(Exception):
    """An answer of the form `{"code":-1121,"msg":"Invalid symbol."}`."""

    def __init__(self, code: int, msg: str, status: int = 400) -> None:
        """Keep code, message and HTTP status."""
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.status = status


@dataclass
class Params:
    """The query of one request; remembers what was read, as the exchange refuses what it does not know.

    Attributes:
        query: The last value of each parameter.
        lag_us: Age of the data that the answer is made of, in microseconds.
    """

    query: Mapping[str, str]
    lag_us: int = 0
    read: set[str] = field(default_factory=set)

    def text(self, name: str) -> str | None:
        """A parameter, None where it is missing."""
        self.read.add(name)
        return self.query.get(name)

    def symbol(self, known: Collection[str]) -> str:
        """The mandatory symbol.

        Raises:
            RestError: -1102, -1100 or -1121.
        """
        value = self.text("symbol")
        if not value:
            raise missing("symbol")
        if not _LEGAL.fullmatch(value):
            raise RestError(
                -1100, f"Illegal characters found in parameter 'symbol'; legal range is '^{LEGAL_SYMBOL}$'."
            )
        if value not in known:
            raise RestError(-1121, "Invalid symbol.")
        return value

    def interval(self, market: Market) -> Interval:
        """The mandatory interval.

        Raises:
            RestError: -1102 or -1120.
        """
        value = self.text("interval")
        if not value:
            raise missing("interval")
        if value not in INTERVALS[market]:
            raise RestError(-1120, "Invalid interval.")
        return Interval(value)

    def number(self, name: str) -> int | None:
        """An unsigned integer, None where it is missing.

        Raises:
            RestError: -1102 where it is empty, -1100 where it holds anything but digits.
        """
        value = self.text(name)
        if value is None:
            return None
        if not value:
            raise missing(name)
        if not _NUMBER.fullmatch(value):
            raise RestError(
                -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
            )
        return int(value)

    def limit(self, default: int, most: int) -> int:
        """The limit, cut to what is allowed.

        Raises:
            RestError: -1130 where it is 0, -1100 where it is no number.
        """
        value = self.number("limit")
        if value == 0:
            raise RestError(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(default if value is None else value, most)

    def time_us(self, name: str) -> int | None:
        """A time in milliseconds or microseconds, told by its size, as microseconds."""
        value = self.number(name)
        return value if value is None or value >= _US_FROM else value * 1000

    def finish(self) -> None:
        """Refuse what was sent and never read.

        Raises:
            RestError: -1104.
        """
        unread = self.query.keys() - self.read
        if unread:
            read, sent = len(self.query) - len(unread), len(self.query)
            raise RestError(
                -1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
            )


def missing(name: str) -> RestError:
    """-1102 about a parameter."""
    return RestError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
