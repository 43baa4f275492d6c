"""Missing update ids of one symbol, and the next diff, which shows whether a book is still known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from capture_pipeline.orderbook.synchronization import Relation, first_covered_id, relate_diff
from capture_pipeline.replay.continuity import find_new_diff
from capture_pipeline.replay.messages import FIRST, LAST, PREVIOUS, Messages


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


class NextDiff(NamedTuple):
    """The next diff with ids after those of a book.

    Attributes:
        at: Number of the message; the number of messages if there is no such diff.
        relation: Its relation to the book; None if there is no such diff.
    """

    at: int
    relation: Relation | None


def find_next_diff(messages: Messages, last_id: int, at: int = 0) -> NextDiff:
    """Find the next diff with new ids; it shows whether a book is still known. Snapshots are ignored.

    Args:
        messages: Messages that follow the book.
        last_id: Update id of the book.
        at: The first message that follows the book.
    """
    rows = messages.rows
    number = int(find_new_diff(rows, at, len(messages), last_id))
    if number == len(messages):
        return NextDiff(number, None)
    first, last, previous = (int(rows[row, number]) for row in (FIRST, LAST, PREVIOUS))
    return NextDiff(number, relate_diff(first_covered_id(first, previous), last, last_id))
