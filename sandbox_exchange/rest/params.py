"""Parameters of REST requests and the errors of the exchange about them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from capture_pipeline.binance.periods import Interval
from capture_pipeline.binance.urls import Market
from sandbox_exchange.constants import INTERVALS

LEGAL_SYMBOL = r"[\w\-._&&[^a-z]]{1,50}"
"""Valid characters of a symbol in the notation of the exchange."""
_LEGAL = re.compile(r"(?:[^\Wa-z]|[-.]){1,50}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_US_FROM = 10**14


class RestError(Exception):
    """Error response of the form `{"code":-1121,"msg":"Invalid symbol."}`."""

    def __init__(self, code: int, msg: str, status: int = 400) -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.status = status


@dataclass
class Params:
    """Parameters of one request.

    The exchange refuses unknown parameters. `read` stores the known ones.

    Attributes:
        query: Last value of each parameter.
        lag_us: Age of the data in the response, microseconds.
        read: Names of the parameters that were read.
    """

    query: Mapping[str, str]
    lag_us: int = 0
    read: set[str] = field(default_factory=set)

    def text(self, name: str) -> str | None:
        """Return a parameter; None if it is missing."""
        self.read.add(name)
        return self.query.get(name)

    def symbol(self, known: Collection[str]) -> str:
        """Return the mandatory symbol.

        Raises:
            RestError: The symbol is missing (-1102), has invalid characters (-1100) or is unknown (-1121).
        """
        value = self.text("symbol")
        if not value:
            raise missing_error("symbol")
        if not _LEGAL.fullmatch(value):
            raise RestError(
                -1100, f"Illegal characters found in parameter 'symbol'; legal range is '^{LEGAL_SYMBOL}$'."
            )
        if value not in known:
            raise RestError(-1121, "Invalid symbol.")
        return value

    def interval(self, market: Market) -> Interval:
        """Return the mandatory interval.

        Raises:
            RestError: The interval is missing (-1102) or invalid (-1120).
        """
        value = self.text("interval")
        if not value:
            raise missing_error("interval")
        if value not in INTERVALS[market]:
            raise RestError(-1120, "Invalid interval.")
        return Interval(value)

    def number(self, name: str) -> int | None:
        """Return an unsigned integer; None if it is missing.

        Raises:
            RestError: The value is empty (-1102) or has characters other than digits (-1100).
        """
        value = self.text(name)
        if value is None:
            return None
        if not value:
            raise missing_error(name)
        if not _NUMBER.fullmatch(value):
            raise RestError(
                -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
            )
        return int(value)

    def limit(self, default: int, maximum: int) -> int:
        """Return the limit, at most `maximum`.

        Raises:
            RestError: The limit is 0 (-1130) or not a number (-1100).
        """
        value = self.number("limit")
        if value == 0:
            raise RestError(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(default if value is None else value, maximum)

    def time_us(self, name: str) -> int | None:
        """Return a time in microseconds; the size of the number determines the unit of the request."""
        value = self.number(name)
        return value if value is None or value >= _US_FROM else value * 1000

    def check_all_read(self) -> None:
        """Check that all parameters of the request were read.

        Raises:
            RestError: A parameter was not read (-1104).
        """
        unread = self.query.keys() - self.read
        if unread:
            read, sent = len(self.query) - len(unread), len(self.query)
            raise RestError(
                -1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{sent}'."
            )


def missing_error(name: str) -> RestError:
    """Create the error -1102 about a missing parameter."""
    return RestError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
