"""Tests of the state machine: the book is synced exactly while no id is missing. Ids only, no levels."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_pipeline.orderbook.synchronization import (
    Relation,
    State,
    Step,
    Synchronization,
    first_covered_id,
    relate_diff,
)


class Ids(NamedTuple):
    """Ids of a diff."""

    first_id: int
    last_id: int
    previous_id: int | None = None


@st.composite
def feeds(draw: st.DrawFn) -> tuple[list[Ids], list[bool]]:
    """Generate the diffs of an exchange, of spot or futures, and which of them arrive."""
    is_futures, last, diffs = draw(st.booleans()), draw(st.integers(0, 9)), list[Ids]()
    for _ in range(draw(st.integers(1, 25))):
        first = last + 1 + (draw(st.integers(0, 3)) if is_futures else 0)
        diffs.append(Ids(first, first + draw(st.integers(0, 4)), last if is_futures else None))
        last = diffs[-1].last_id
    return diffs, draw(
        st.lists(st.sampled_from([True] * 5 + [False]), min_size=len(diffs), max_size=len(diffs))
    )


@given(feeds(), st.data())
@settings(max_examples=300)
def test_a_book_is_synced_exactly_without_missing_ids(
    feed: tuple[list[Ids], list[bool]], data: st.DataObject
) -> None:
    """A synced book contains every diff up to its id.

    A book is synced if all diffs after a snapshot arrived.
    """
    diffs, arrivals = feed
    sync, contained, seed = Synchronization[Ids](1_000), set[Ids](), len(diffs)
    for number, (diff, arrives) in enumerate(zip(diffs, arrivals, strict=True)):
        if data.draw(st.integers(0, 3)) == 0:
            newest = data.draw(st.integers(max(0, number - 3), number))
            snapshot_id = diffs[newest].last_id
            step, kept = sync.judge_snapshot(snapshot_id)
            assert step is not Step.TOO_OLD or not all(arrivals[newest + 1 : number])
            if step in {Step.LOADED, Step.BRIDGED}:
                contained, seed = {one for one in diffs if one.last_id <= snapshot_id} | set(kept), newest
                sync.start_from(snapshot_id, kept)
        if arrives and sync.accept_diff(diff) in {Step.APPLIED, Step.BRIDGED}:
            contained.add(diff)
        if sync.state is State.SYNCED:
            assert contained == {one for one in diffs if one.last_id <= sync.last_id}
        if seed < number and all(arrivals[seed + 1 : number + 1]):
            assert (sync.state, sync.last_id) == (State.SYNCED, diff.last_id)


@pytest.mark.parametrize(
    ("ids", "book_id", "relation"),
    [
        (Ids(5, 9), 9, Relation.STALE),
        (Ids(5, 9), 8, Relation.CONTINUES),
        (Ids(5, 9), 4, Relation.CONTINUES),
        (Ids(5, 9), 3, Relation.GAP),
        (Ids(7, 9, 4), 4, Relation.CONTINUES),
        (Ids(7, 9, 4), 3, Relation.GAP),
        (Ids(2, 9, 4), 3, Relation.GAP),
        (Ids(7, 9, -1), 5, Relation.GAP),
    ],
)
def test_a_diff_continues_a_book_that_reaches_its_ids(ids: Ids, book_id: int, relation: Relation) -> None:
    """Spot covers `U..u`; futures cover `pu + 1 .. u`, whatever `U` is; -1 is the `pu` of spot in tables."""
    assert relate_diff(first_covered_id(ids.first_id, ids.previous_id), ids.last_id, book_id) is relation


def test_buffered_diffs_are_bounded_by_their_number() -> None:
    """An item may contain several diffs; the oldest items are dropped, but never the newest."""
    sync = Synchronization[Ids](4, count_diffs=lambda ids: ids.last_id - ids.first_id + 1)
    for ids in (Ids(1, 2), Ids(3, 4), Ids(5, 6)):
        sync.accept_diff(ids)
    assert sync.judge_snapshot(1) == (Step.TOO_OLD, [])
    assert sync.judge_snapshot(2) == (Step.BRIDGED, [Ids(3, 4), Ids(5, 6)])
    sync.accept_diff(Ids(7, 20))
    assert sync.judge_snapshot(6) == (Step.BRIDGED, [Ids(7, 20)])
    assert sync.reached_id == 20


def test_a_judged_snapshot_changes_nothing_until_it_is_loaded() -> None:
    """A snapshot with malformed levels leaves the buffered diffs for the next one."""
    sync = Synchronization[Ids](9)
    sync.accept_diff(Ids(5, 6))
    assert sync.judge_snapshot(4) == sync.judge_snapshot(4) == (Step.BRIDGED, [Ids(5, 6)])
    assert (sync.state, sync.last_id, sync.reached_id, sync.needs_snapshot) == (State.WAITING, -1, 6, True)
    sync.resume(7)
    assert (sync.state, sync.reached_id, sync.accept_diff(Ids(8, 9))) == (State.SYNCED, 7, Step.APPLIED)
