"""Levels of alerts, which gates set and channels compare."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """Urgency of an alert, the least urgent first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Return the position in the order, from 0."""
        return list(Level).index(self)
