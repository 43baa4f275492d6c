"""State of the round of `lake_arrivals` over all partitions. The module has no clock and performs no I/O."""

import json
from dataclasses import asdict, dataclass, replace

from capture_pipeline.parsing import PARSE_ERRORS

_MARGIN_NS = 60 * 10**9
"""The next round also inspects files that changed within this time before this round began."""


@dataclass(frozen=True)
class Round:
    """One round over all partitions, in several ticks. Times are nanoseconds of the file system's clock.

    Attributes:
        since_ns: Files that changed before this time were inspected in earlier rounds.
        began_ns: Start of this round; 0 before its first tick.
        position: Number of inspected partitions.
        waiting_ns: Earliest change of a postponed partition; 0 if none was postponed.
        newest_gaps_ns: Latest change of a gap ledger so far.
    """

    since_ns: int = 0
    began_ns: int = 0
    position: int = 0
    waiting_ns: int = 0
    newest_gaps_ns: int = 0

    @classmethod
    def load(cls, cursor: str | None) -> "Round":
        """Read the state from the cursor of the sensor; without a readable one all files count as changed."""
        try:
            content = json.loads(cursor or "{}")  # noqa: TID251 - guarded
            return cls(**{str(name): int(value) for name, value in content.items()})
        except PARSE_ERRORS:
            return cls()

    def dump(self) -> str:
        """Return the state as the cursor of the sensor."""
        return json.dumps(asdict(self))

    @property
    def has_postponed(self) -> bool:
        """True if a partition was postponed."""
        return self.waiting_ns > 0

    def start(self, now_ns: int) -> "Round":
        """Set the start of the round if the round has not begun."""
        return self if self.began_ns else replace(self, began_ns=now_ns)

    def record_gaps(self, gaps_ns: int) -> "Round":
        """Record the time of the latest change of a gap ledger."""
        return replace(self, newest_gaps_ns=max(self.newest_gaps_ns, gaps_ns))

    def postpone(self, changed_ns: int) -> "Round":
        """Record a changed partition that the next round has to inspect."""
        return replace(self, waiting_ns=min(self.waiting_ns or changed_ns, changed_ns))

    def advance(self, count: int) -> "Round":
        """Add to the number of inspected partitions."""
        return replace(self, position=self.position + count)

    def next_round(self) -> "Round":
        """Return the initial state of the next round."""
        since_ns = self.began_ns - _MARGIN_NS
        return Round(since_ns=min(since_ns, self.waiting_ns) if self.waiting_ns else since_ns)
