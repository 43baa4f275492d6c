"""Helper to run the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from click.testing import Result

Run = Callable[..., Result]
OUTAGE = {"start": "2025-01-15T02:00:00Z", "end": "2025-01-15T06:00:00Z"}
OMITTED = {"symbol": "BTCUSDT", "start": "2025-01-10T03:00:00Z", "end": "2025-01-10T06:00:00Z"}


def read_json(result: Result) -> Any:
    """Return the JSON of the standard output."""
    return json.loads(result.stdout)
