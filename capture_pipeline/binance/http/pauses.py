"""Pauses of an address: until when nothing may be sent to some hosts of the exchange, and why. Holds no clock and opens no file."""

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
_REMEDY = "nothing is sent before"


class HostGroup(StrEnum):
    """Hosts that a limit is about."""

    REST = "rest"
    STREAMS = "streams"


def affected_hosts(status: int, part: HostGroup) -> tuple[HostGroup, ...]:
    """Return the hosts that a refusal by `part` is about.

    429 is about one limit: the weight of requests, or the number of handshakes. A ban and the firewall are about the address.
    """
    return (part,) if status == BACK_OFF else tuple(HostGroup)


class Pause(BaseModel):
    """A time in which nothing may be sent.

    Attributes:
        since_us: When it was recorded, microseconds UTC, wall clock.
        until_us: Its end, likewise; at most three days later.
        status: 429, 418 or 403 of the refusal; None where the budget of connection attempts is used up.
        detail: Further text for people.
    """

    model_config = ConfigDict(frozen=True)

    since_us: _Time
    until_us: _Time
    status: int | None
    detail: str = ""

    @property
    def text(self) -> str:
        """One line for people."""
        end = iso(-(-self.until_us // SECOND_US) * SECOND_US)
        match self.status:
            case 418:
                return f"the exchange has banned this address until {end} (418)"
            case 429:
                return f"the exchange asks this address to back off until {end} (429)"
            case 403:
                return (
                    f"the exchange's firewall refuses this address (403); the next request is sent at {end}"
                )
            case _:
                return f"{self.detail}; the next one is made at {end}"

    def left_s(self, now_s: float) -> float:
        """Return the seconds until its end."""
        return self.until_us / 1e6 - now_s

    def at(self, now_us: int) -> Pause:
        """Return the pause as it is by the clock of now: never longer than it was when it was recorded, nor than three days.

        A clock that was set back since would make it longer: it is then counted from now.
        """
        most_us = min(self.until_us - self.since_us, round(MAX_WAIT_S * 1e6))
        if self.since_us <= now_us and self.until_us - now_us <= most_us:
            return self
        return self.model_copy(update={"since_us": now_us, "until_us": now_us + most_us})

    def error(self, where: str, now_s: float) -> RateLimitedError:
        """Return the error about a request that is not sent because of it."""
        what, left_s = f"is not asked: {self.text}", max(0.0, self.left_s(now_s))
        if self.status == BANNED:
            return BannedError(
                what, retry_after_s=left_s, until_us=self.until_us, where=where, remedy=_REMEDY
            )
        return RateLimitedError(what, retry_after_s=left_s, where=where, remedy=_REMEDY)

    @property
    def has_stated_end(self) -> bool:
        """Whether the exchange states when it ends; the firewall's refusal may last."""
        return self.status != FIREWALL


class Limits(Protocol):
    """The limits of this machine's address at one exchange, shared by all that use the store."""

    def pause(self, part: HostGroup) -> Pause | None:
        """Return the pause in force, None where requests may be sent."""

    def refuse(self, part: HostGroup, status: int, wait_s: float) -> Pause:
        """Record a refusal of the address; returns the pause in force."""

    def count_attempt(self) -> Pause | None:
        """Count an attempt to open a stream connection; the pause in force where it may not be made, and is not counted."""
