"""How often a sensor may ask for the same thing: each further attempt waits twice as long, up to a day. Pure: values in, values out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capture_pipeline.binance.periods import DAY_US, HOUR_US
from capture_pipeline.parsing import PARSE_ERRORS

_FIRST_WAIT_US = HOUR_US


@dataclass(frozen=True)
class Attempts:
    """What was asked for, by key: how often, and when last.

    Attributes:
        made: Number and time in microseconds UTC.
    """

    made: Mapping[str, tuple[int, int]]

    @classmethod
    def load(cls, cursor: str | None) -> "Attempts":
        """From a sensor's cursor; one of another kind counts as none."""
        try:
            content = json.loads(cursor or "{}")  # noqa: TID251 - guarded
            return cls({str(key): (int(number), int(at)) for key, (number, at) in content.items()})
        except PARSE_ERRORS:
            return cls({})

    def dump(self) -> str:
        """For the sensor's cursor."""
        return json.dumps(self.made, sort_keys=True)

    def next(self, wanted: Sequence[str], now_us: int, most: int) -> tuple[dict[str, int], "Attempts"]:
        """Which of the wanted to ask for now, with the attempt's number, and what is then remembered.

        Those asked for least often come first, so that hopeless ones never keep others from their turn. What is no longer wanted is
        forgotten.

        Args:
            wanted: All that there is to ask for, each once.
            now_us: The present.
            most: Cap on what is asked for now.
        """
        known = {key: self.made[key] for key in wanted if key in self.made}
        ready = [
            key for key in wanted if key not in known or abs(now_us - known[key][1]) >= wait_us(known[key][0])
        ]
        ready.sort(key=lambda key: known.get(key, (0, 0)))
        due = {key: known.get(key, (0, 0))[0] + 1 for key in ready[:most]}
        return due, Attempts({**known, **{key: (number, now_us) for key, number in due.items()}})


def wait_us(number: int) -> int:
    """How long to wait after the attempt of that number."""
    return min(DAY_US, _FIRST_WAIT_US << min(number - 1, 10))
