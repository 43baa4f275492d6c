"""The circuit breaker's memory: a ban outlives the process that met it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from capture_pipeline.lake.files import publish_model, read_model


class Ban(BaseModel):
    """A ban by the exchange.

    Attributes:
        until_us: Its end, microseconds UTC, wall clock.
        reason: The answer that brought it.
    """

    until_us: int
    reason: str


class FileBreaker:
    """A ban in a file of the storage root, shared by every process that uses it."""

    def __init__(self, path: Path) -> None:
        """Keep the place.

        Args:
            path: The file.
        """
        self._path = path

    def banned_until_us(self) -> int:
        """End of the ban, 0 if there is none."""
        ban = read_model(self._path, Ban)
        return ban.until_us if ban else 0

    def open(self, until_us: int, reason: str) -> None:
        """Remember a ban; a longer one that is known stays."""
        if until_us > self.banned_until_us():
            publish_model(self._path, Ban(until_us=until_us, reason=reason))
