"""Missing ids in the messages of one symbol, and the diff that decides whether a book is still known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from capture_pipeline.replay.continuity import GAP, OTHER, RAN, decided
from capture_pipeline.replay.messages import Messages


@dataclass
class Discontinuity:
    """Missing ids, and the time without a book that they cause.

    Attributes:
        last_good_id: Last id before the missing ids.
        first_good_id: First id after the missing ids.
        capture_ns: Capture time of the message after the missing ids.
        valid_until_ns: Capture time of the last diff after which the book was valid; None if there was none.
        valid_again_ns: Capture time of the message after which the book was valid again; None if it never was.
    """

    last_good_id: int
    first_good_id: int
    capture_ns: int
    valid_until_ns: int | None = None
    valid_again_ns: int | None = None


class Next(StrEnum):
    """Relation of the next diff to a book."""

    CONTINUES = "continues"
    BREAKS = "breaks"
    """Ids are missing before the diff."""
    NONE = "none"
    """There is no further diff."""


class Follower(NamedTuple):
    """The next diff that decides whether a book is still known.

    Attributes:
        at: Number of the message; the number of messages where there is no such diff.
        relation: See `Next`.
    """

    at: int
    relation: Next


_RELATIONS = {RAN: Next.CONTINUES, GAP: Next.BREAKS, OTHER: Next.NONE}


def next_diff(messages: Messages, last_id: int, at: int = 0) -> Follower:
    """Find the diff that decides whether a book is still known; repeated diffs and snapshots decide nothing.

    Args:
        messages: Messages that follow the book.
        last_id: Update id of the book.
        at: The first message that follows the book.
    """
    number, why = decided(messages.rows, at, messages.rows.shape[1], last_id)
    return Follower(number, _RELATIONS[why])
