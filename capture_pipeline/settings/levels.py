"""Levels of alerts. Gates set them; channels compare them with their lowest level."""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """Urgency of an alert, the least urgent first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Position in the order of urgency, from 0."""
        return list(Level).index(self)
