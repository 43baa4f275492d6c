"""Interface of a depth diff, as the books use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from capture_pipeline.binance.streams.messages import Level


class Diff(Protocol):
    """Changed levels and the update ids that they cover.

    A diff that was received from a stream decodes its levels on each access.
    """

    @property
    def first_id(self) -> int:
        """First update id."""

    @property
    def last_id(self) -> int:
        """Last update id."""

    @property
    def previous_id(self) -> int | None:
        """Last update id of the previous diff; only futures send it."""

    @property
    def bids(self) -> Sequence[Level]:
        """Changed bid levels."""

    @property
    def asks(self) -> Sequence[Level]:
        """Changed ask levels."""
