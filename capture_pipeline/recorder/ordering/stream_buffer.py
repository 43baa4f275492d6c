"""What the merge keeps: messages on their way, the state of each stream, and counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec

from capture_pipeline.binance.streams.messages import WireDiff

NEVER: Final = 1 << 62
"""An event time after which none comes."""


class Message(msgspec.Struct, gc=False):
    """One message on its way.

    Attributes:
        first: First id it covers: `U` of a diff, `t` of a trade.
        last: Last id it covers.
        stream: The exchange's name.
        raw: The whole message as it came.
        received_ns: When it came, on the recorder's clock.
        connection: Which connection brought it.
        event_time: The exchange's time of it, as sent.
        diff: Its levels, if it is a diff.
        is_reset: Whether with it the exchange began to count ids anew.
        capture_ns: When it was let through; set by whoever stamps it.
    """

    first: int
    last: int
    stream: str
    raw: bytes
    received_ns: int
    connection: int
    event_time: int = 0
    diff: WireDiff | None = None
    is_reset: bool = False
    capture_ns: int = 0

    def __lt__(self, other: Message) -> bool:
        """In the order of ids; of two that start together the shorter one first."""
        return (self.first, self.last) < (other.first, other.last)


@dataclass(slots=True)
class StreamBuffer:
    """One stream.

    Attributes:
        next_id: Id after the last one let through; -1 before any.
        first_id: First id let through since the exchange began to count; -1 where it is unknown.
        seen: Last id that each live connection has brought.
        held: Messages behind a hole, in order.
        newest: Event time of the last message let through, as sent.
        reset_candidates: Messages of lower ids and a later time, in order: the beginning of a new count, or strays.
        before: Next id of the count before this one, and event time in microseconds at which this one began; None without a new count.
    """

    next_id: int = -1
    first_id: int = -1
    seen: dict[int, int] = field(default_factory=dict)
    held: list[Message] = field(default_factory=list)
    newest: int = NEVER
    reset_candidates: list[Message] = field(default_factory=list)
    before: tuple[int, int] | None = None


@dataclass(slots=True)
class MergeCounts:
    """What the merge had to do. Each message offered is passed, duplicate, late, early or stray, or it is still held.

    Attributes:
        passed: Messages let through.
        duplicates: Messages all of whose ids were let through or held before.
        held: Messages that were held back.
        held_ns: For how long in all, nanoseconds.
        longest_ns: The longest of them.
        late: Messages that came after their place had been given up; they are lost, and stand in a gap.
        forced: Messages let through because too much was held.
        resets: How often the exchange began to count ids anew.
        early: Messages with ids from before the first message let through; no recording promises them.
        stray: Messages of lower ids and a later time that began no new count; they were handed to `on_stray`.
    """

    passed: int = 0
    duplicates: int = 0
    held: int = 0
    held_ns: int = 0
    longest_ns: int = 0
    late: int = 0
    forced: int = 0
    resets: int = 0
    early: int = 0
    stray: int = 0

    @property
    def settled(self) -> int:
        """Messages whose fate is known."""
        return self.passed + self.duplicates + self.late + self.early + self.stray
