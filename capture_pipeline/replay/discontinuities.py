"""Missing update ids of one symbol, and the next diff, which shows whether a book is still known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from capture_pipeline.replay.continuity import CONTINUES, GAP, OTHER, classify_next_diff
from capture_pipeline.replay.messages import Messages


@dataclass
class Discontinuity:
    """Missing update ids, and the period without a book that they cause.

    Attributes:
        last_good_id: Last id before the missing ids.
        first_good_id: First id after the missing ids.
        capture_ns: Capture time of the message after the missing ids.
        valid_until_ns: Capture time of the last diff after which the book was valid; None if there is none.
        valid_again_ns: Capture time of the message after which the book was valid again; None if there is
            none.
    """

    last_good_id: int
    first_good_id: int
    capture_ns: int
    valid_until_ns: int | None = None
    valid_again_ns: int | None = None


class Relation(StrEnum):
    """Relation of the next diff to a book."""

    CONTINUES = "continues"
    BREAKS = "breaks"
    """Ids are missing before the diff."""
    NONE = "none"
    """There is no further diff."""


class NextDiff(NamedTuple):
    """The next diff with ids after those of a book.

    Attributes:
        at: Number of the message; the number of messages if there is no such diff.
        relation: See `Relation`.
    """

    at: int
    relation: Relation


_RELATIONS = {CONTINUES: Relation.CONTINUES, GAP: Relation.BREAKS, OTHER: Relation.NONE}


def find_next_diff(messages: Messages, last_id: int, at: int = 0) -> NextDiff:
    """Find the next diff with new ids; it shows whether a book is still known. Snapshots are ignored.

    Args:
        messages: Messages that follow the book.
        last_id: Update id of the book.
        at: The first message that follows the book.
    """
    number, why = classify_next_diff(messages.rows, at, messages.rows.shape[1], last_id)
    return NextDiff(number, _RELATIONS[why])
