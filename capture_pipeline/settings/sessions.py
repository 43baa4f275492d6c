"""What `pipeline.yaml` may say of golden samples: how they are recorded, when, and what they are held to. Opens no file."""

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


def _symbol(text: str) -> str:
    try:
        return parse_symbol(text)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _clock_time(value: object) -> object:
    """YAML takes 14:30 without quotes for a number, which would be another time of day."""
    if isinstance(value, dt.time) and value.tzinfo is None:
        return value
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError('a time is written in quotes, as "14:30" or "14:30:00", and is UTC')
    return value


Symbol = Annotated[str, AfterValidator(_symbol)]
Regime = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]


class Recording(Section):
    """How a live session is recorded."""

    connections: int = Field(2, ge=1, le=4, description="Connections side by side, merged into one stream.")
    silence_s: float = Field(
        8,
        gt=0,
        le=600,
        description="A connection that sends nothing for this long, not even the answer to a ping, is replaced.",
    )
    steady_s: float = Field(
        30,
        gt=0,
        le=3600,
        description="After a connection that lived this long the waits before new ones start anew.",
    )
    renew_hours: float = Field(
        23.5,
        gt=0,
        le=CONNECTION_LIFE_S // 3600,
        description="A connection is replaced at this age, before the exchange ends it.",
    )
    flush_messages: int = Field(500, ge=1, le=100_000, description="Messages in one write at most.")
    flush_s: float = Field(1, gt=0, le=10, description="Longest time that a message waits for its write.")
    fsync_s: float = Field(1, gt=0, le=60, description="Longest time between two fsyncs.")
    queue_mb: int = Field(
        64,
        ge=1,
        le=4096,
        description="What may wait for a slow disk; beyond it messages are lost, and listed.",
    )
    patience_s: float = Field(
        20, ge=0, le=3600, description="At the end of a session a disk that refuses is tried twice this long."
    )
    audit_minutes: float = Field(
        60, gt=0, description="The live book is compared with a REST snapshot this often."
    )
    clock_minutes: float = Field(10, gt=0, description="The exchange's clock is asked this often.")
    clock_step_ms: float = Field(50, gt=0, description="A larger step of the wall clock is put on record.")
    snapshot_limit: int = Field(5000, ge=5, le=5000, description="Levels a side of a REST snapshot.")
    free_disk_gb: float = Field(50, ge=0, description="Least free disk before a session starts.")
    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="Serve Prometheus metrics on this port of 127.0.0.1."
    )


class PlannedSession(Section):
    """One session of the plan: weekly by `weekday`, or once by `date`."""

    regime: Regime
    symbols: list[Symbol] = Field(["BTCUSDT"], min_length=1)
    weekday: Weekday | None = None
    date: dt.date | None = None
    time: Annotated[dt.time, BeforeValidator(_clock_time)] = Field(
        dt.time(0, 0), description='Start, UTC, in quotes: "14:30".'
    )
    duration_hours: float = Field(24, gt=0, le=168)
    description: str = ""

    @model_validator(mode="after")
    def _one_day(self) -> PlannedSession:
        if (self.weekday is None) == (self.date is None):
            raise ValueError("a session has either a weekday or a date")
        return self


class SessionGates(Section):
    """Every threshold of a session's verdict."""

    gap_percent: Percent = Field(0.01, description="Each gap ratio must be below this.")
    uptime_percent: Percent = Field(99.9, description="Uptime must be above this.")
    least_messages: int = Field(1_000_000, ge=0)
    least_hours: float = Field(24, ge=0)
    trades_per_s_least: float = Field(
        10, ge=0, description="Rates are told and do not decide: how much is traded is the market's doing."
    )
    trades_per_s_most: float = Field(100, ge=0)
    depth_per_s_least: float = Field(8, ge=0)
    depth_per_s_most: float = Field(10.5, ge=0)
    stream_silence_s: float = Field(
        600,
        ge=0,
        description="A planned stream begins and ends within this of the recording's start and end.",
    )
    end_tolerance_s: float = Field(
        10, ge=0, description="A session's last message comes at most this long before its planned end."
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
