"""Waits between the attempts of a sensor: an hour after the first, doubled with each one, up to a day.

The module has no clock and performs no I/O.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from capture_pipeline.backoff import Backoff
from capture_pipeline.parsing import PARSE_ERRORS

WAITS = Backoff(first_s=3600.0, max_s=86_400.0)


class LastAttempt(NamedTuple):
    """Number of attempts so far, and time of the last one, microseconds UTC."""

    number: int
    at_us: int


_NO_ATTEMPT = LastAttempt(0, 0)


class DueKeys(NamedTuple):
    """Number of the attempt by key to request, and the updated attempts of all wanted keys."""

    due: dict[str, int]
    attempts: "Attempts"


@dataclass(frozen=True)
class Attempts:
    """Attempts by key.

    Attributes:
        by_key: Last attempt by key.
    """

    by_key: Mapping[str, LastAttempt]

    @classmethod
    def load(cls, cursor: str | None) -> "Attempts":
        """Read the attempts from the cursor of a sensor; a cursor that cannot be read counts as empty."""
        try:
            content = json.loads(cursor or "{}")  # noqa: TID251 - guarded
            return cls({str(key): LastAttempt(int(number), int(at)) for key, (number, at) in content.items()})
        except PARSE_ERRORS:
            return cls({})

    def dump(self) -> str:
        """Return the attempts as the cursor of a sensor."""
        return json.dumps(self.by_key, sort_keys=True)

    def select_due(self, wanted: Sequence[str], now_us: int, most: int) -> DueKeys:
        """Select the keys to request now.

        Keys with the fewest attempts come first, so that keys that never succeed do not delay the others.

        Args:
            wanted: All keys that need a run.
            now_us: The present, microseconds UTC.
            most: Largest number of keys to request now.
        """
        known = {key: self.by_key[key] for key in wanted if key in self.by_key}
        ready = [
            key
            for key in wanted
            if key not in known or abs(now_us - known[key].at_us) >= WAITS.wait_s(known[key].number) * 1e6
        ]
        ready.sort(key=lambda key: known.get(key, _NO_ATTEMPT))
        due = {key: known.get(key, _NO_ATTEMPT).number + 1 for key in ready[:most]}
        requested = {key: LastAttempt(number, now_us) for key, number in due.items()}
        return DueKeys(due, Attempts({**known, **requested}))
