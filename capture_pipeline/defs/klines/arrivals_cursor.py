"""Where `lake_arrivals` is in its round over all partitions. Pure: values in, values out."""

import json
from dataclasses import asdict, dataclass, replace

from capture_pipeline.parsing import PARSE_ERRORS

_MARGIN_NS = 60 * 10**9
"""Files that changed just before a round began are looked at in the next one too."""


@dataclass(frozen=True)
class Round:
    """One round over all partitions, in several ticks. Times are nanoseconds of the file system's clock.

    Attributes:
        since_ns: Files that changed before it were looked at in earlier rounds.
        began_ns: When this round began; 0 before its first tick.
        position: Number of partitions that were looked at.
        waiting_ns: The earliest change of a partition that was postponed; 0 without one.
        newest_gaps_ns: The last change of a gap ledger so far.
    """

    since_ns: int = 0
    began_ns: int = 0
    position: int = 0
    waiting_ns: int = 0
    newest_gaps_ns: int = 0

    @classmethod
    def load(cls, cursor: str | None) -> "Round":
        """From a sensor's cursor; with one that cannot be read, all partitions are looked at."""
        try:
            content = json.loads(cursor or "{}")  # noqa: TID251 - guarded
            return cls(**{str(name): int(value) for name, value in content.items()})
        except PARSE_ERRORS:
            return cls()

    def dump(self) -> str:
        """For the sensor's cursor."""
        return json.dumps(asdict(self))

    @property
    def is_waiting(self) -> bool:
        """Whether a partition was postponed."""
        return self.waiting_ns > 0

    def begun(self, now_ns: int) -> "Round":
        """Begin the round, unless it was begun."""
        return self if self.began_ns else replace(self, began_ns=now_ns)

    def seen(self, gaps_ns: int) -> "Round":
        """Remember the change of a gap ledger."""
        return replace(self, newest_gaps_ns=max(self.newest_gaps_ns, gaps_ns))

    def postponed(self, changed_ns: int) -> "Round":
        """Remember a partition that is to be looked at in the next round."""
        return replace(self, waiting_ns=min(self.waiting_ns or changed_ns, changed_ns))

    def moved(self, count: int) -> "Round":
        """Count partitions as looked at."""
        return replace(self, position=self.position + count)

    def ended(self) -> "Round":
        """Return the next round."""
        since_ns = self.began_ns - _MARGIN_NS
        return Round(since_ns=min(since_ns, self.waiting_ns) if self.waiting_ns else since_ns)
