"""Data of the merger: messages, and the state of each stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from capture_pipeline.binance.streams.messages import WireDiff

NEVER: Final = 1 << 62
"""Event time that is later than any real one."""


class Message(msgspec.Struct, gc=False):
    """One received message.

    Attributes:
        first: First id: `U` of a diff, `t` of a trade.
        last: Last id.
        stream: Name of the stream.
        raw: Received bytes.
        received_ns: Time of arrival on the recorder's clock.
        connection: Number of the connection.
        event_time: Event time of the exchange, as sent.
        diff: Levels, if the message is a diff.
        is_reset: Whether the exchange restarted the ids with this message.
        capture_ns: Capture time; set when the message is emitted.
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
        """Order by first id, then by last id."""
        return (self.first, self.last) < (other.first, other.last)


class EarlierCount(NamedTuple):
    """Next id of the count before a reset, and event time of the reset in microseconds."""

    next_id: int
    reset_us: int


@dataclass(slots=True)
class StreamBuffer:
    """State of one stream.

    Attributes:
        next_id: Id after the last emitted message; -1 before the first one.
        first_id: First emitted id since the last reset; -1 if unknown.
        last_ids: Last id by live connection.
        held: Messages after a hole, sorted.
        newest: Event time of the last emitted message, as sent.
        reset_candidates: Sorted messages with lower ids and a later time. They begin a new count of ids, or
            they are strays.
        before: Count of ids before the last reset; None without a reset.
    """

    next_id: int = -1
    first_id: int = -1
    last_ids: dict[int, int] = field(default_factory=dict)
    held: list[Message] = field(default_factory=list)
    newest: int = NEVER
    reset_candidates: list[Message] = field(default_factory=list)
    before: EarlierCount | None = None
