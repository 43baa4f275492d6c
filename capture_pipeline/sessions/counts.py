"""Counts of a session over all its recorders. A checkpoint stores them by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Self

from capture_pipeline.sessions.models import Cause

_ENDED_BY = "ended by "
"""Prefix of the counts of ended connections in a checkpoint; the cause follows."""


@dataclass(slots=True)
class MergeCounts:
    """Counts of the merger. Each pushed message is passed, duplicate, late, early, stray or still held.

    Attributes:
        passed: Emitted messages.
        duplicates: Messages whose ids were emitted or held before.
        held: Messages that were held back.
        held_ns: Sum of their waits in nanoseconds.
        longest_ns: Longest wait in nanoseconds.
        late: Messages that arrived after their place was skipped; they are lost, and a gap lists them.
        forced: Messages emitted because too many bytes were held.
        resets: Restarts of the ids by the exchange.
        early: Messages with ids before the first emitted message; they are not part of the recording.
        stray: Messages with lower ids and a later time that began no new count; passed to `on_stray`.
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
    def finished_count(self) -> int:
        """Count of messages that are not held any more."""
        return self.passed + self.duplicates + self.late + self.early + self.stray


@dataclass(slots=True)
class SessionCounts:
    """Counts of messages and incidents.

    Attributes:
        merge: Counts of the merger.
        connection_ends: Ended connections by cause.
        dropped_messages: Messages that the writer had no room for.
        tail_dropped_messages: Those of them that no later message of the recorder shows.
        malformed_diffs: Recorded diffs with malformed levels.
        clock_steps: Steps of the wall clock.
        suspect_segments: Parts of the recording whose fsync failed.
        unwritten_messages: Messages that the disk refused until the recorder ended.
        removed_messages: Messages in parts that were removed or altered.
        rejected_messages: Messages that could not be parsed.
        control_messages: Messages about the connection itself, such as `serverShutdown`.
        received: Received messages and snapshots.
    """

    merge: MergeCounts = field(default_factory=MergeCounts)
    connection_ends: Counter[Cause] = field(default_factory=Counter)
    dropped_messages: int = 0
    tail_dropped_messages: int = 0
    malformed_diffs: int = 0
    clock_steps: int = 0
    suspect_segments: int = 0
    unwritten_messages: int = 0
    removed_messages: int = 0
    rejected_messages: int = 0
    control_messages: int = 0
    received: int = 0

    @classmethod
    def parse(cls, counts: Mapping[str, int]) -> Self:
        """Read the counts of a checkpoint; a missing count is 0, and an unknown name is ignored."""
        ends = {cause: counts.get(f"{_ENDED_BY}{cause}", 0) for cause in Cause}
        return cls(
            MergeCounts(**{name: counts[name] for name in _MERGE if name in counts}),
            Counter({cause: count for cause, count in ends.items() if count}),
            **{name: counts[name] for name in _MESSAGES if name in counts},
        )

    def by_name(self) -> dict[str, int]:
        """Return the counts in the form of a checkpoint."""
        ends = {f"{_ENDED_BY}{cause}": count for cause, count in self.connection_ends.items()}
        return {**ends, **asdict(self.merge), **self.messages_by_name()}

    def messages_by_name(self) -> dict[str, int]:
        """Return the counts except those of the merger and the connections.

        Rare ones only if they are not 0.
        """
        counts = {name: getattr(self, name) for name in _MESSAGES}
        return {name: count for name, count in counts.items() if count or name in _FREQUENT}

    def parts(self) -> dict[str, int]:
        """Return the messages that are not lines of the recording, by their names in the account."""
        return {
            "duplicates": self.merge.duplicates,
            "late": self.merge.late,
            "early": self.merge.early,
            "stray": self.merge.stray,
            "rejected": self.rejected_messages,
            "control": self.control_messages,
            "dropped": self.dropped_messages,
            "unwritten": self.unwritten_messages,
            "removed": self.removed_messages,
        }

    @property
    def listed(self) -> int:
        """Count of the messages that are accounted for and are not in the recording."""
        return sum(self.parts().values())


_MERGE = [each.name for each in fields(MergeCounts)]
_MESSAGES = [each.name for each in fields(SessionCounts) if each.name not in {"merge", "connection_ends"}]
_FREQUENT = {"dropped_messages", "rejected_messages", "control_messages", "received"}
ACCOUNT_PARTS = tuple(SessionCounts().parts())
"""Names in the account of messages that are not lines of the recording."""
