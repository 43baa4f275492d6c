"""The model of an alert. It makes untrusted texts printable and limits their length, for all channels."""

from __future__ import annotations

import time
import uuid
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from capture_pipeline.binance.periods import iso
from capture_pipeline.printable import printable, printable_lines
from capture_pipeline.settings.levels import Level

_LONGEST_KEY, _LONGEST_TITLE, _LONGEST_LINE, _MOST_LINES, _LONGEST_FIELD = 300, 200, 500, 30, 200


class State(StrEnum):
    """State of the condition that an alert reports."""

    OPEN = "open"
    RESOLVED = "resolved"


def _lines(text: str) -> str:
    return "\n".join(printable_lines(text, _LONGEST_LINE).split("\n")[:_MOST_LINES])


def _fields(fields: dict[str, str]) -> dict[str, str]:
    return {
        printable(name, _LONGEST_FIELD): printable(value, _LONGEST_FIELD) for name, value in fields.items()
    }


class Alert(BaseModel):
    """The start or the end of a condition.

    Attributes:
        key: Identifies the condition, for instance a check with its partition. A key has at most one open
            alert.
        level: Urgency.
        state: OPEN for the start, RESOLVED for the end.
        title: One line, at most 200 characters.
        text: At most 30 lines.
        fields: Further values by name.
        at_us: Time of the start or the end, microseconds UTC.
        id: Unique id, the same in every repetition of a message.
    """

    model_config = ConfigDict(frozen=True)

    key: Annotated[str, AfterValidator(lambda text: printable(text, _LONGEST_KEY))]
    level: Level
    state: State = State.OPEN
    title: Annotated[str, AfterValidator(lambda text: printable(text, _LONGEST_TITLE))]
    text: Annotated[str, AfterValidator(_lines)] = ""
    fields: Annotated[dict[str, str], AfterValidator(_fields)] = {}
    at_us: int = Field(default_factory=lambda: time.time_ns() // 1000)
    id: str = Field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def heading(self) -> str:
        """The title, after the level or RESOLVED."""
        return f"{'RESOLVED' if self.state is State.RESOLVED else self.level.upper()}: {self.title}"

    @property
    def body(self) -> str:
        """Text, fields and time, each on a line of its own."""
        lines = [self.text] if self.text else []
        lines += [f"{name}: {value}" for name, value in self.fields.items()]
        return "\n".join([*lines, f"time: {iso(self.at_us // 1_000_000 * 1_000_000)}"])


def combine_alerts(alerts: list[Alert]) -> Alert:
    """Combine alerts into one with the highest level: a line for each of 29, and the number of others."""
    shown = alerts[: _MOST_LINES - 1]
    lines = [alert.heading for alert in shown]
    if len(alerts) > len(shown):
        lines.append(f"and {len(alerts) - len(shown):,} more; open ones are listed by: capture alerts status")
    level = max((alert.level for alert in alerts), key=lambda each: each.rank)
    return Alert(
        key="summary",
        level=level,
        title=f"{len(alerts):,} alerts",
        text="\n".join(lines),
        at_us=alerts[-1].at_us,
        id=alerts[-1].id,
    )
