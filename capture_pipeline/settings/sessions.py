"""Settings of golden samples in `pipeline.yaml`: recording, planned sessions, and thresholds."""

from __future__ import annotations

import datetime as dt
import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from capture_pipeline.binance.http.settings import Percent, Section
from capture_pipeline.binance.streams.names import CONNECTION_LIFE_S
from capture_pipeline.binance.symbols import parse_symbol
from capture_pipeline.errors import ConfigError

_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?")


class Weekday(StrEnum):
    """Days of the week, UTC."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


def _parse_symbol(text: str) -> str:
    try:
        return parse_symbol(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _check_clock_time(value: object) -> object:
    """Refuse a time without quotes: YAML reads 14:30 as the number 870."""
    if isinstance(value, dt.time) and value.tzinfo is None:
        return value
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError('a time must be in quotes, for instance "14:30" or "14:30:00", UTC')
    return value


Symbol = Annotated[str, AfterValidator(_parse_symbol)]
Regime = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


class Recording(Section):
    """Recording of live sessions."""

    connections: int = Field(
        2, ge=1, le=4, description="Parallel connections, whose messages are merged into one stream."
    )
    silence_s: float = Field(
        8,
        gt=0,
        le=600,
        description="A connection that sends nothing for this time, not even the answer to a ping, is "
        "replaced.",
    )
    steady_s: float = Field(
        30,
        gt=0,
        le=3600,
        description="A connection that lasted this long resets the growing waits between attempts to "
        "connect.",
    )
    renew_hours: float = Field(
        23.5,
        gt=0,
        le=CONNECTION_LIFE_S // 3600,
        description="A connection is replaced at this age, before the exchange closes it.",
    )
    flush_messages: int = Field(500, ge=1, le=100_000, description="Maximum number of messages in one write.")
    flush_s: float = Field(1, gt=0, le=10, description="Longest time that a message waits to be written.")
    fsync_s: float = Field(1, gt=0, le=60, description="Longest time between two calls of fsync.")
    queue_mb: int = Field(
        64,
        ge=1,
        le=4096,
        description="Memory for messages that wait for a slow disk; when it is full, messages are lost and "
        "recorded as lost.",
    )
    patience_s: float = Field(
        20,
        ge=0,
        le=3600,
        description="At the end of a session failed writes are repeated for twice this time.",
    )
    audit_minutes: float = Field(
        60, gt=0, description="Time between two comparisons of the live book with a REST snapshot."
    )
    clock_minutes: float = Field(10, gt=0, description="Time between two requests of the exchange's clock.")
    clock_step_ms: float = Field(50, gt=0, description="A larger step of the wall clock is recorded.")
    snapshot_limit: int = Field(
        5000, ge=5, le=5000, description="Price levels of each side of a REST snapshot."
    )
    free_disk_gb: float = Field(
        50, ge=0, description="Smallest free disk space with which a session may start."
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Port of 127.0.0.1 for Prometheus metrics; none serves no metrics."
    )


class PlannedSession(Section):
    """A planned session: every week on `weekday`, or once on `date`."""

    regime: Regime = Field(description="Kind of market, for instance high_volume; part of the session's id.")
    symbols: list[Symbol] = Field(["BTCUSDT"], min_length=1, description="Recorded symbols.")
    weekday: Weekday | None = Field(None, description="Day of a weekly session, UTC.")
    date: dt.date | None = Field(None, description="Day of a single session, UTC.")
    time: Annotated[dt.time, BeforeValidator(_check_clock_time)] = Field(
        dt.time(0, 0), description='Start, UTC, in quotes: "14:30".'
    )
    duration_hours: float = Field(24, gt=0, le=168, description="Planned duration.")
    description: str = Field("", description="Text that is stored with the session.")

    @model_validator(mode="after")
    def _check_day(self) -> PlannedSession:
        if (self.weekday is None) == (self.date is None):
            raise ValueError("a session needs either a weekday or a date")
        return self


class SessionGates(Section):
    """Thresholds of the verdict on a session."""

    gap_percent: Percent = Field(0.01, description="Each gap ratio must be below this.")
    uptime_percent: Percent = Field(99.9, description="The uptime must be above this.")
    least_messages: int = Field(1_000_000, ge=0, description="Smallest number of messages of a session.")
    least_hours: float = Field(
        24, ge=0, description="Shortest duration of a session; a minute less is accepted."
    )
    trades_per_s_least: float = Field(
        10,
        ge=0,
        description="Rates outside their limits are reported but do not change the verdict: they depend on "
        "the market.",
    )
    trades_per_s_most: float = Field(100, ge=0, description="Highest expected rate of trades of a symbol.")
    depth_per_s_least: float = Field(8, ge=0, description="Lowest expected rate of depth diffs of a symbol.")
    depth_per_s_most: float = Field(
        10.5, ge=0, description="Highest expected rate of depth diffs of a symbol."
    )
    stream_silence_s: float = Field(
        600,
        ge=0,
        description="The first and the last message of a planned stream must be this close to the start and "
        "the end of the recording.",
    )
    end_tolerance_s: float = Field(
        10,
        ge=0,
        description="The last message of a session must arrive at most this long before the planned end.",
    )
    quality_score_least: float = Field(
        70, ge=0, le=100, description="The quality score of a folder must be above this."
    )


DEFAULT_SESSIONS = [
    PlannedSession(
        regime="high_volume",
        weekday=Weekday.TUE,
        time=dt.time(14, 30),
        description="a day from the US open on",
    ),
    PlannedSession(
        regime="low_volume",
        weekday=Weekday.SAT,
        time=dt.time(2, 0),
        description="a day from the Asian night on",
    ),
    PlannedSession(
        regime="special_event",
        weekday=Weekday.FRI,
        time=dt.time(0, 0),
        description="weekly options expiry, 08:00 UTC",
    ),
]
