"""What a book asks of a diff, wherever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from capture_pipeline.binance.streams.messages import Level


class Diff(Protocol):
    """Changed levels and the ids that they cover; a diff of the wire decodes its levels whenever it is asked for them."""

    @property
    def first_id(self) -> int:
        """First id."""

    @property
    def last_id(self) -> int:
        """Last id."""

    @property
    def previous_id(self) -> int | None:
        """Last id of its predecessor; only of futures."""

    @property
    def bids(self) -> Sequence[Level]:
        """Changed bids."""

    @property
    def asks(self) -> Sequence[Level]:
        """Changed asks."""
