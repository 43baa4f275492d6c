"""Intervals, months and days, and conversions of times. All times are int64 microseconds UTC."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MINYEAR, UTC, date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from capture_pipeline.errors import ConfigError

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

_UNIT_US = {"s": SECOND_US, "m": MINUTE_US, "h": HOUR_US, "d": DAY_US}
_MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])")


class TimeRange(NamedTuple):
    """Half-open range of times `[start_us, end_us)`, microseconds UTC."""

    start_us: int
    end_us: int

    @property
    def length_us(self) -> int:
        """Length in microseconds."""
        return self.end_us - self.start_us


class Interval(StrEnum):
    """Kline intervals that divide a day, so that every day and month contains whole klines.

    The exchange also publishes 3d, 1w and 1mo. They cross the ends of months and are not supported.
    """

    S1 = "1s"
    M1 = "1m"
    M3 = "3m"
    M5 = "5m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H2 = "2h"
    H4 = "4h"
    H6 = "6h"
    H8 = "8h"
    H12 = "12h"
    D1 = "1d"

    @property
    def us(self) -> int:
        """Length in microseconds."""
        return int(self.value[:-1]) * _UNIT_US[self.value[-1]]

    def floor(self, time_us: int) -> int:
        """Return the open time of the kline that contains `time_us`."""
        return time_us - time_us % self.us

    def ceil(self, time_us: int) -> int:
        """Return the first open time at or after `time_us`."""
        return -(-time_us // self.us) * self.us

    def count_bars(self, start_us: int, end_us: int) -> int:
        """Count the open times in `[start_us, end_us)`."""
        return max(0, (self.ceil(end_us) - self.ceil(start_us)) // self.us)


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month, UTC."""

    year: int
    month: int

    @classmethod
    def parse(cls, text: str) -> Month:
        """Parse `YYYY-MM`.

        Raises:
            ConfigError: `text` does not have this form.
        """
        found = _MONTH.fullmatch(text)
        if not found or int(found[1]) < MINYEAR:
            raise ConfigError(f"{text!r} is not a month", remedy="write YYYY-MM, for instance 2024-12")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, time_us: int) -> Month:
        """Return the month that contains `time_us`."""
        moment = from_us(time_us)
        return cls(moment.year, moment.month)

    @classmethod
    def range(cls, first: Month, last: Month) -> list[Month]:
        """List all months from `first` to `last`, both included."""
        months, month = [], first
        while month <= last:
            months.append(month)
            month = month.next()
        return months

    def next(self) -> Month:
        """Return the month after this one."""
        return Month(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def start_us(self) -> int:
        """First microsecond of the month."""
        return to_us(datetime(self.year, self.month, 1, tzinfo=UTC))

    @property
    def end_us(self) -> int:
        """First microsecond after the month."""
        return self.start_us + calendar.monthrange(self.year, self.month)[1] * DAY_US

    @property
    def bounds(self) -> TimeRange:
        """Range of the month."""
        return TimeRange(self.start_us, self.end_us)

    def days(self) -> Iterator[date]:
        """Yield the days of the month in order."""
        for day in range(1, calendar.monthrange(self.year, self.month)[1] + 1):
            yield date(self.year, self.month, day)

    def __str__(self) -> str:
        """`YYYY-MM`."""
        return f"{self.year:04d}-{self.month:02d}"


def to_us(moment: datetime) -> int:
    """Convert an aware datetime to microseconds since 1970, UTC, without rounding."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def from_us(time_us: int) -> datetime:
    """Convert microseconds since 1970 to an aware datetime in UTC, without rounding."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)


def day_bounds(day: date) -> TimeRange:
    """Return the range of a UTC day."""
    start = to_us(datetime(day.year, day.month, day.day, tzinfo=UTC))
    return TimeRange(start, start + DAY_US)


def iso(time_us: int) -> str:
    """Format a time as `2024-12-31T23:59:00Z`, with a fraction if it is not zero."""
    return from_us(time_us).isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> int:
    """Parse an ISO date or time to microseconds; a time without an offset is UTC.

    Raises:
        ConfigError: `text` is not an ISO date or time.
    """
    try:
        moment = datetime.fromisoformat(text)
        return to_us(moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{text!r} is not a date or time", remedy="write 2024-12-31 or 2024-12-31T23:59:00Z"
        ) from None
