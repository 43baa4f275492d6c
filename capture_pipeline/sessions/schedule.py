"""Times of planned sessions: the plan of `pipeline.yaml` as windows in time. Uses no clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from capture_pipeline.sessions.layout import session_id
from capture_pipeline.settings.sessions import PlannedSession, Weekday

_DAYS = list(Weekday)


@dataclass(frozen=True, order=True)
class Window:
    """One planned recording.

    Attributes:
        start_us: Start, microseconds UTC.
        end_us: End, microseconds UTC.
        planned: Entry of the plan.
    """

    start_us: int
    end_us: int
    planned: PlannedSession

    @property
    def session(self) -> str:
        """Id of the session; it depends only on the plan, so that a window is recorded once."""
        return session_id(self.planned.symbols, self.start_us, self.planned.regime)


def list_windows(plan: Iterable[PlannedSession], from_us: int, to_us: int) -> list[Window]:
    """List the windows that overlap `[from_us, to_us)`, in order."""
    found = [window for planned in plan for window in _windows_of(planned, from_us, to_us)]
    return sorted(found, key=lambda window: (window.start_us, window.planned.regime))


def _windows_of(planned: PlannedSession, from_us: int, to_us: int) -> list[Window]:
    length = round(planned.duration_hours * 3_600_000_000)
    found = []
    for day in [planned.date] if planned.date else _days(planned.weekday, from_us - length, to_us):
        start = datetime.combine(day, planned.time, UTC)
        start_us = round(start.timestamp()) * 1_000_000
        if start_us < to_us and start_us + length > from_us:
            found.append(Window(start_us, start_us + length, planned))
    return found


def _days(weekday: Weekday | None, from_us: int, to_us: int) -> list[date]:
    first = datetime.fromtimestamp(from_us / 1e6, UTC).date()
    last = datetime.fromtimestamp(to_us / 1e6, UTC).date()
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    return [day for day in days if _DAYS[day.weekday()] == weekday]
