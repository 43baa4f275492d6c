"""Tests of the synchronisation: snapshots, gaps, futures, audits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.binance.streams.messages import DepthDiff, DepthSnapshot, Level
from capture_pipeline.errors import MalformedDataError
from capture_pipeline.orderbook.audit import Audit, AuditOutcome, SideAudit
from capture_pipeline.orderbook.levels import ZERO, decimal_text, to_units
from capture_pipeline.orderbook.local_book import MAX_BUFFERED, LocalBook
from capture_pipeline.orderbook.synchronization import State, Step

ONE, TWO = "1.00000000", "2.00000000"


def diff(
    first: int,
    last: int,
    bids: list[Level] | None = None,
    asks: list[Level] | None = None,
    previous: int | None = None,
) -> DepthDiff:
    return DepthDiff(0, "BTCUSDT", first, last, bids or [], asks or [], previous)


def snapshot(last: int, bids: list[Level] | None = None, asks: list[Level] | None = None) -> DepthSnapshot:
    return DepthSnapshot(last, bids or [("10.00000000", ONE)], asks or [("11.00000000", ONE)])


def synced(last: int = 100) -> LocalBook:
    sync = LocalBook()
    sync.process_snapshot(
        snapshot(
            last, [("10.00000000", ONE), ("9.00000000", ONE)], [("11.00000000", ONE), ("12.00000000", ONE)]
        )
    )
    sync.process_diff(diff(last + 1, last + 1))
    assert sync.state is State.SYNCED
    return sync


@pytest.mark.parametrize(
    ("first", "last", "step", "state"),
    [
        (90, 99, Step.DROPPED, State.WAITING),
        (90, 100, Step.DROPPED, State.WAITING),
        (90, 101, Step.BRIDGED, State.SYNCED),
        (100, 105, Step.BRIDGED, State.SYNCED),
        (101, 105, Step.BRIDGED, State.SYNCED),
        (101, 101, Step.BRIDGED, State.SYNCED),
        (102, 105, Step.GAP, State.WAITING),
    ],
)
def test_a_spot_diff_bridges_a_snapshot(first: int, last: int, step: Step, state: State) -> None:
    """`U <= lastUpdateId + 1 <= u` continues, `u <= lastUpdateId` is dropped, anything later is a gap."""
    sync = LocalBook()
    assert sync.process_snapshot(snapshot(100)) is Step.LOADED
    assert not sync.needs_snapshot
    assert sync.process_diff(diff(first, last)) is step
    assert (sync.state, sync.needs_snapshot) == (state, step is Step.GAP)


@pytest.mark.parametrize(
    ("first", "last", "previous", "step"),
    [
        (95, 99, 94, Step.DROPPED),
        (95, 105, 94, Step.BRIDGED),
        (100, 105, 98, Step.BRIDGED),
        (103, 105, 100, Step.BRIDGED),
        (103, 105, 101, Step.GAP),
    ],
)
def test_a_futures_diff_bridges_by_its_predecessor(first: int, last: int, previous: int, step: Step) -> None:
    """Ids of futures are not consecutive; `pu` shows whether a diff is missing."""
    sync = LocalBook()
    sync.process_snapshot(snapshot(100))
    assert sync.process_diff(diff(first, last, previous=previous)) is step


def test_futures_continue_by_pu() -> None:
    """`U` may jump; a `pu` above the last id is a gap."""
    sync = LocalBook()
    sync.process_snapshot(snapshot(100))
    steps = [
        sync.process_diff(diff(*ids[:2], previous=ids[2]))
        for ids in ((99, 105, 97), (140, 150, 105), (160, 170, 151))
    ]
    assert steps == [Step.BRIDGED, Step.APPLIED, Step.GAP]


@pytest.mark.parametrize(
    ("last", "step", "wanted"),
    [
        (88, Step.TOO_OLD, True),
        (89, Step.BRIDGED, False),
        (105, Step.BRIDGED, False),
        (110, Step.LOADED, False),
        (200, Step.LOADED, False),
    ],
)
def test_a_snapshot_meets_buffered_diffs(last: int, step: Step, wanted: bool) -> None:
    """Earlier diffs are buffered; a snapshot older than the first of them is too old."""
    sync = LocalBook()
    assert [sync.process_diff(diff(first, first + 9)) for first in (90, 100, 101)] == [
        Step.BUFFERED,
        Step.BUFFERED,
        Step.BUFFERED,
    ]
    assert sync.process_snapshot(snapshot(last)) is step
    assert sync.needs_snapshot is wanted
    if step is Step.BRIDGED:
        assert sync.last_id == 110


def test_missing_ids_invalidate_the_book_until_a_snapshot_bridges() -> None:
    """A book with a gap is invalid, rejects a snapshot from before the gap, and recovers with a later one."""
    sync = synced(100)
    assert sync.process_diff(diff(103, 104, [("10.00000000", TWO)])) is Step.GAP
    assert (sync.state, sync.needs_snapshot) == (State.INVALID, True)
    assert sync.process_diff(diff(105, 106)) is Step.BUFFERED
    assert sync.process_snapshot(snapshot(101)) is Step.TOO_OLD
    assert sync.state is State.INVALID
    assert sync.process_snapshot(snapshot(102)) is Step.BRIDGED
    assert (sync.state, sync.last_id, sync.book.bids.quantity(to_units("10"))) == (
        State.SYNCED,
        106,
        to_units("2"),
    )


def test_a_gap_between_buffered_diffs_leaves_only_what_follows_it() -> None:
    """Buffered diffs before a gap are discarded."""
    sync = LocalBook()
    assert [sync.process_diff(diff(1, 5)), sync.process_diff(diff(8, 9))] == [Step.BUFFERED, Step.GAP]
    assert sync.process_snapshot(snapshot(3)) is Step.TOO_OLD
    assert sync.process_snapshot(snapshot(7)) is Step.BRIDGED


@pytest.mark.parametrize(
    ("ids", "step"),
    [
        ((95, 101), Step.DROPPED),
        ((101, 101), Step.DROPPED),
        ((100, 103), Step.APPLIED),
        ((102, 102), Step.APPLIED),
    ],
)
def test_what_was_there_before_is_no_gap(ids: tuple[int, int], step: Step) -> None:
    """Repeated diffs are dropped, overlapping diffs are applied: quantities are absolute."""
    sync = synced(100)
    assert sync.process_diff(diff(*ids)) is step
    assert sync.state is State.SYNCED


def test_a_malformed_diff_invalidates_the_book() -> None:
    """A diff that fails in the middle invalidates the book."""
    sync = synced()
    with pytest.raises(MalformedDataError):
        sync.process_diff(diff(102, 102, [("10.00000000", "1e5")]))
    assert (sync.state, sync.needs_snapshot) == (State.INVALID, True)


def test_a_malformed_snapshot_leaves_the_buffered_diffs() -> None:
    """The next snapshot still meets the diffs that arrived before the malformed one."""
    sync = LocalBook()
    sync.process_diff(diff(101, 105))
    with pytest.raises(MalformedDataError):
        sync.process_snapshot(snapshot(100, [("10.00000000", "1e5")]))
    assert (sync.state, sync.needs_snapshot) == (State.WAITING, True)
    assert sync.process_snapshot(snapshot(100)) is Step.BRIDGED


def audited(sync: LocalBook, taken: DepthSnapshot) -> tuple[Audit, SideAudit]:
    audit = sync.audit(taken)
    assert audit.bids is not None
    return audit, audit.bids


def test_an_audit_compares_the_book_as_it_was() -> None:
    """The book is compared as it was at the snapshot's id, and continues with the levels of the snapshot."""
    sync = synced(100)
    sync.start_audit()
    sync.process_diff(diff(102, 103, [("10.00000000", TWO)]))
    sync.process_diff(diff(104, 105, [("10.00000000", ZERO)]))
    taken = snapshot(
        103,
        [("10.00000000", TWO), ("9.00000000", ONE), ("1.00000000", TWO)],
        [("11.00000000", ONE), ("12.00000000", ONE)],
    )
    audit, bids = audited(sync, taken)
    assert (audit.outcome, audit.is_clean, audit.ratio(10)) == (AuditOutcome.COMPARED, True, 1.0)
    assert (bids.matched, bids.unknown) == (2, 1)
    assert sync.book.bids.top(9) == [(to_units("9"), to_units("1")), (to_units("1"), to_units("2"))]
    assert (sync.state, sync.last_id, sync.is_auditing) == (State.SYNCED, 105, False)


def test_an_audit_tells_what_disagrees() -> None:
    """Another quantity differs, a level only in the snapshot is missing, one only in the book is a ghost."""
    sync = synced(100)
    sync.start_audit()
    _, bids = audited(sync, snapshot(101, [("10.00000000", TWO), ("9.50000000", ONE), ("8.00000000", ONE)]))
    assert (bids.matched, bids.differing, bids.missing, bids.ghosts, bids.unknown) == (0, 1, 1, 1, 1)
    assert bids.ratios[10] == 0.0
    assert [price for price, _ in sync.book.bids.top(9)] == [to_units("10"), to_units("9.5"), to_units("8")]


def test_an_audit_leaves_out_what_a_straddling_diff_touched() -> None:
    """Levels of a diff across the snapshot's id are not compared, including removed levels."""
    sync = synced(100)
    sync.start_audit()
    sync.process_diff(diff(102, 110, [("10.00000000", TWO), ("9.00000000", ZERO)]))
    audit, bids = audited(sync, snapshot(105, [("10.00000000", ONE), ("9.00000000", TWO)]))
    assert (bids.straddled, bids.differing, bids.missing, bids.ghosts) == (2, 0, 0, 0)
    assert audit.asks is not None
    assert audit.asks.matched == 1
    assert sync.book.bids.top(9) == [(to_units("10"), to_units("2"))]


@pytest.mark.parametrize(("last", "outcome"), [(90, AuditOutcome.TOO_OLD), (110, AuditOutcome.AHEAD)])
def test_an_audit_waits_for_a_snapshot_it_can_compare(last: int, outcome: AuditOutcome) -> None:
    """A snapshot older than the audit is too old, one ahead of the stream has to wait.

    The audit continues.
    """
    sync = synced(100)
    sync.start_audit()
    assert sync.audit(snapshot(last)).outcome is outcome
    assert sync.is_auditing
    sync.process_diff(diff(102, 110))
    assert sync.audit(snapshot(110)).outcome is AuditOutcome.COMPARED


def test_an_audit_ends_with_the_book() -> None:
    """A book that is not synced cannot be audited."""
    sync = synced(100)
    assert sync.audit(snapshot(101)).outcome is AuditOutcome.NOT_READY
    sync.start_audit()
    sync.process_diff(diff(200, 201))
    assert sync.audit(snapshot(201)).outcome is AuditOutcome.NOT_READY


MOVES = st.lists(
    st.lists(st.tuples(st.booleans(), st.integers(1, 20), st.integers(0, 3)), min_size=1, max_size=4),
    min_size=2,
    max_size=25,
)


@given(MOVES, st.data())
def test_any_snapshot_leads_to_the_true_book(
    moves: list[list[tuple[bool, int, int]]], data: st.DataObject
) -> None:
    """For any time of the snapshot and of its arrival, the book equals the book of the exchange."""
    truth: list[dict[tuple[bool, int], int]] = [{}]
    diffs: list[DepthDiff] = []
    reached = 0
    for move in moves:
        first = reached + 1
        touched = set()
        for bid, price, quantity in move:
            truth.append(truth[-1] | {(bid, price): quantity})
            touched.add((bid, price))
            reached += 1
        now = truth[-1]
        sides = [
            [(f"{price}.00000000", decimal_text(now[side, price])) for side, price in touched if side is bid]
            for bid in (True, False)
        ]
        diffs.append(diff(first, reached, sides[0], sides[1]))
    taken, arrives = data.draw(st.integers(0, reached)), data.draw(st.integers(0, len(diffs)))
    sync = LocalBook()
    for number, one in enumerate(diffs):
        if number == arrives:
            assert sync.process_snapshot(_true(truth[taken], taken)) in {Step.BRIDGED, Step.LOADED}
        sync.process_diff(one)
    if arrives == len(diffs):
        sync.process_snapshot(_true(truth[taken], taken))
    assert _levels(sync) == {
        place: quantity for place, quantity in truth[max(reached, taken)].items() if quantity
    }


@given(MOVES, st.data())
def test_an_audit_of_the_true_state_is_clean(
    moves: list[list[tuple[bool, int, int]]], data: st.DataObject
) -> None:
    """For any id of the snapshot since the start of the audit, the comparison is clean."""
    truth: list[dict[tuple[bool, int], int]] = [{}]
    sync = LocalBook()
    sync.process_snapshot(DepthSnapshot(0, [("1.00000000", ZERO)], []))
    reached = begin = 0
    begins_at = data.draw(st.integers(0, len(moves) - 1))
    for number, move in enumerate(moves):
        first, touched = reached + 1, set()
        for bid, price, quantity in move:
            truth.append(truth[-1] | {(bid, price): quantity})
            touched.add((bid, price))
            reached += 1
        sides = [
            [
                (f"{price}.00000000", decimal_text(truth[-1][side, price]))
                for side, price in touched
                if side is bid
            ]
            for bid in (True, False)
        ]
        sync.process_diff(diff(first, reached, sides[0], sides[1]))
        if number == begins_at:
            sync.start_audit()
            begin = reached
    taken = data.draw(st.integers(begin, reached))
    audit = sync.audit(_true(truth[taken], taken))
    assert audit.bids is not None
    assert audit.asks is not None
    assert audit.bids.is_clean
    assert audit.asks.is_clean
    assert _levels(sync) == {place: quantity for place, quantity in truth[-1].items() if quantity}


def _true(levels: dict[tuple[bool, int], int], last: int) -> DepthSnapshot:
    sides = [
        [
            (f"{price}.00000000", decimal_text(levels[side, price]))
            for side, price in sorted(levels)
            if side is bid and levels[side, price]
        ]
        for bid in (True, False)
    ]
    return DepthSnapshot(last, sides[0], sides[1])


def _levels(sync: LocalBook) -> dict[tuple[bool, int], int]:
    return {
        (bid, price // 10**8): to_units(quantity)
        for bid, side in ((True, sync.book.bids), (False, sync.book.asks))
        for price, quantity in side.levels.items()
    }


def test_waiting_costs_a_bounded_number_of_diffs() -> None:
    """Without a snapshot the oldest diffs are dropped.

    A snapshot older than the remaining diffs is too old.
    """
    sync = LocalBook()
    for number in range(1, MAX_BUFFERED + 101):
        sync.process_diff(diff(number, number))
    assert sync.process_snapshot(snapshot(99)) is Step.TOO_OLD
    assert sync.process_snapshot(snapshot(100)) is Step.BRIDGED
