"""Waits between the attempts of a sensor: an hour after the first, doubled with each one, up to a day.

The module has no clock and performs no I/O.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capture_pipeline.backoff import Backoff
from capture_pipeline.parsing import PARSE_ERRORS

WAITS = Backoff(first_s=3600.0, max_s=86_400.0)


@dataclass(frozen=True)
class Attempts:
    """Attempts by key.

    Attributes:
        by_key: Number of attempts, and time of the last one, microseconds UTC.
    """

    by_key: Mapping[str, tuple[int, int]]

    @classmethod
    def load(cls, cursor: str | None) -> "Attempts":
        """Read the attempts from the cursor of a sensor; a cursor that cannot be read counts as empty."""
        try:
            content = json.loads(cursor or "{}")  # noqa: TID251 - guarded
            return cls({str(key): (int(number), int(at)) for key, (number, at) in content.items()})
        except PARSE_ERRORS:
            return cls({})

    def dump(self) -> str:
        """Return the attempts as the cursor of a sensor."""
        return json.dumps(self.by_key, sort_keys=True)

    def select_due(self, wanted: Sequence[str], now_us: int, most: int) -> tuple[dict[str, int], "Attempts"]:
        """Select the keys to request now.

        Keys with the fewest attempts come first, so that keys that never succeed do not delay the others.

        Args:
            wanted: All keys that need a run.
            now_us: The present, microseconds UTC.
            most: Largest number of keys to request now.

        Returns:
            The number of the attempt by requested key, and the updated attempts of the wanted keys.
        """
        known = {key: self.by_key[key] for key in wanted if key in self.by_key}
        ready = [
            key
            for key in wanted
            if key not in known or abs(now_us - known[key][1]) >= WAITS.wait_s(known[key][0]) * 1e6
        ]
        ready.sort(key=lambda key: known.get(key, (0, 0)))
        due = {key: known.get(key, (0, 0))[0] + 1 for key in ready[:most]}
        return due, Attempts({**known, **{key: (number, now_us) for key, number in due.items()}})
