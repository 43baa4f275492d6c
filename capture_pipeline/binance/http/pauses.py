"""Pauses: times in which this address must not send requests to the exchange, with the reason (sans-I/O)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field

from capture_pipeline.binance.http.refusals import BACK_OFF, BANNED, FIREWALL, MAX_WAIT_S
from capture_pipeline.binance.periods import SECOND_US, iso
from capture_pipeline.errors import BannedError, RateLimitedError

_LAST_US = 253_402_300_799_999_999
"""The end of the year 9999, microseconds UTC."""
_Time = Annotated[int, Field(ge=0, le=_LAST_US)]
_REMEDY = "run again after that time"


class HostGroup(StrEnum):
    """Group of hosts to which a limit applies."""

    REST = "rest"
    STREAMS = "streams"


def affected_hosts(status: int, part: HostGroup) -> tuple[HostGroup, ...]:
    """Return the groups of hosts to which a refusal by one of them applies.

    429 applies to one limit: the weight of requests, or the number of handshakes. A ban and the firewall
    apply to the address.
    """
    return (part,) if status == BACK_OFF else tuple(HostGroup)


class Pause(BaseModel):
    """A time in which no request may be sent.

    Attributes:
        since_us: Time of its record, microseconds UTC, wall clock.
        until_us: End, microseconds UTC, wall clock; at most three days after `since_us`.
        status: HTTP status of the refusal: 429, 418 or 403; None if the budget of connection attempts is used
            up.
        detail: Description of a pause without a status.
    """

    model_config = ConfigDict(frozen=True)

    since_us: _Time
    until_us: _Time
    status: int | None
    detail: str = ""

    @property
    def text(self) -> str:
        """Description in one line."""
        end = iso(-(-self.until_us // SECOND_US) * SECOND_US)
        match self.status:
            case 418:
                return f"the exchange has banned this address until {end} (418)"
            case 429:
                return f"the exchange requires this address to wait until {end} (429)"
            case 403:
                return (
                    f"the exchange's firewall refuses this address (403); the next request is sent at {end}"
                )
            case _:
                return f"{self.detail}; the next one is allowed at {end}"

    def left_s(self, now_s: float) -> float:
        """Return the seconds until the end of the pause."""
        return self.until_us / 1e6 - now_s

    def at(self, now_us: int) -> Pause:
        """Return the pause, restarted at `now_us` if the clock was set back since its record.

        The remaining time is therefore never longer than the recorded duration, and never longer than three
        days.
        """
        max_us = min(self.until_us - self.since_us, round(MAX_WAIT_S * 1e6))
        if self.since_us <= now_us and self.until_us - now_us <= max_us:
            return self
        return self.model_copy(update={"since_us": now_us, "until_us": now_us + max_us})

    def error(self, where: str, now_s: float) -> RateLimitedError:
        """Return the error for a request that is not sent because of the pause."""
        what, left_s = f"no request is sent: {self.text}", max(0.0, self.left_s(now_s))
        if self.status == BANNED:
            return BannedError(
                what, retry_after_s=left_s, until_us=self.until_us, where=where, remedy=_REMEDY
            )
        return RateLimitedError(what, retry_after_s=left_s, where=where, remedy=_REMEDY)

    @property
    def has_stated_end(self) -> bool:
        """Report whether the exchange states the end of the pause; the firewall does not."""
        return self.status != FIREWALL


class Limits(Protocol):
    """Limits of this machine's address at one exchange, shared by all processes that use the lake."""

    def pause(self, part: HostGroup) -> Pause | None:
        """Return the present pause; None if requests may be sent."""

    def refuse(self, part: HostGroup, status: int, wait_s: float) -> Pause:
        """Record a refusal of the address and return the present pause."""

    def count_attempt(self) -> Pause | None:
        """Count an attempt to open a stream connection, or return the pause that forbids the attempt."""
