"""Merging of connections: each message once, in order, without avoidable holes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.recorder.ordering.merger import MILLISECOND, Merger, Message

STREAM = "btcusdt@depth@100ms"


@dataclass
class Desk:
    """A merger with a clock that the test sets."""

    merge: Merger
    now: int = 0

    def push(self, connection: int, first: int, last: int | None = None) -> list[tuple[int, int]]:
        """Return the ids that a message releases."""
        last = first if last is None else last
        raw = f"{connection}:{first}-{last}".encode()
        return [
            (one.first, one.last)
            for one in self.merge.push(Message(first, last, STREAM, raw, self.now, connection))
        ]

    def wait(self, ms: int) -> list[tuple[int, int]]:
        """Return the ids that the passing of time releases."""
        self.now += ms * MILLISECOND
        return [(one.first, one.last) for one in self.merge.flush_expired(self.now)]


def desk(*connections: int) -> Desk:
    merge = Merger()
    for connection in connections:
        merge.add_connection(connection)
    return Desk(merge)


def test_each_message_goes_once_whoever_is_first() -> None:
    """The second copy is a duplicate."""
    one = desk(1, 2)
    assert one.push(1, 5, 7) == [(5, 7)]
    assert one.push(2, 5, 7) == []
    assert one.push(2, 8) == [(8, 8)]
    assert one.push(1, 8) == []
    assert (one.merge.counts.passed, one.merge.counts.duplicates) == (2, 2)


def test_a_message_behind_a_hole_waits_for_the_connection_that_can_fill_it() -> None:
    """A reconnected connection is ahead; the old one is behind and delivers all messages."""
    one = desk(1, 2)
    one.push(1, 1)
    one.push(2, 1)
    one.merge.remove_connection(1)
    one.merge.add_connection(3)
    assert one.push(3, 5) == []
    assert one.wait(5000) == []
    assert one.push(2, 2) == [(2, 2)]
    assert one.push(2, 3) == [(3, 3)]
    assert one.push(2, 4) == [(4, 4), (5, 5)]
    assert one.merge.counts.held == 1
    assert one.merge.counts.longest_ns == 5000 * MILLISECOND


def test_a_hole_that_nobody_can_fill_is_given_up_after_the_grace() -> None:
    """Both connections have passed it."""
    one = desk(1, 2)
    one.push(1, 1)
    one.push(2, 1)
    assert one.push(1, 3) == []
    assert one.push(2, 3) == []
    assert one.wait(100) == []
    assert one.wait(150) == [(3, 3)]


def test_a_hole_is_given_up_when_the_last_one_who_could_fill_it_dies() -> None:
    """The delayed messages are released by the next `flush_expired`."""
    one = desk(1, 2)
    one.push(1, 1)
    one.push(2, 1)
    one.push(1, 4)
    assert one.wait(9000) == []
    one.merge.remove_connection(2)
    assert one.wait(1) == [(4, 4)]


def test_a_single_connection_is_not_waited_for() -> None:
    """The wait is only the grace for messages out of order."""
    one = desk(1)
    one.push(1, 1)
    assert one.push(1, 3) == []
    assert one.push(1, 2) == [(2, 2), (3, 3)]
    assert one.push(1, 9) == []
    assert one.wait(250) == [(9, 9)]
    assert one.push(1, 6) == []
    assert one.merge.counts.late == 1


def test_a_new_connection_that_brought_nothing_is_waited_for_a_little() -> None:
    """It may have subscribed before the hole, so the wait is limited."""
    one = desk(1)
    one.push(1, 1)
    one.merge.add_connection(2)
    assert one.push(1, 3) == []
    assert one.wait(1900) == []
    assert one.wait(200) == [(3, 3)]


def test_an_exact_successor_is_preferred_to_one_that_overlaps() -> None:
    """Connections may divide the same ids differently."""
    one = desk(1, 2)
    one.push(1, 1, 5)
    one.push(2, 1, 5)
    assert one.push(1, 4, 9) == []
    assert one.push(2, 6, 9) == [(6, 9)]
    assert one.wait(300) == []
    assert one.merge.held == 0


def test_an_overlap_goes_if_nothing_exact_comes() -> None:
    """The overlap contains ids that would be lost otherwise."""
    one = desk(1)
    one.push(1, 1, 5)
    assert one.push(1, 4, 9) == []
    assert one.wait(250) == [(4, 9)]
    assert one.push(1, 10) == [(10, 10)]


def test_too_much_held_back_is_let_through() -> None:
    """The memory is bounded for any behaviour of a connection."""
    one = desk(1, 2)
    one.merge = Merger(max_bytes=10)
    one.merge.add_connection(1)
    one.merge.add_connection(2)
    one.push(1, 1)
    one.push(2, 1)
    assert one.push(1, 100) == []
    assert one.push(1, 101) == [(100, 100), (101, 101)]
    assert one.merge.counts.forced >= 1


def test_nothing_is_held_longer_than_the_limit() -> None:
    """A connection that is open and silent ends the wait."""
    one = desk(1, 2)
    one.push(1, 1)
    one.push(2, 1)
    one.push(1, 3)
    assert one.wait(29_000) == []
    assert one.wait(2000) == [(3, 3)]


def test_a_resumed_stream_takes_nothing_that_was_recorded() -> None:
    """The first message of a new process can repeat the last one of the old process."""
    one = desk(1)
    one.merge.resume(STREAM, 10)
    assert one.push(1, 8, 10) == []
    assert one.push(1, 11, 12) == [(11, 12)]


def test_the_end_lets_everything_through() -> None:
    """No further message will come."""
    one = desk(1, 2)
    one.push(1, 1)
    one.push(2, 1)
    one.push(1, 5)
    assert [message.first for message in one.merge.finish(one.now)] == [5]


@st.composite
def journeys(draw: st.DrawFn) -> tuple[int, list[tuple[int, str]]]:
    """Generate steps of two connections over ids 1..n: each is in order, and one may be cut at a time."""
    count = draw(st.integers(5, 60))
    return count, draw(
        st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from(["go", "go", "go", "cut"])), max_size=300)
    )


@given(journeys())
def test_no_id_is_lost_while_one_connection_is_up(journey: tuple[int, list[tuple[int, str]]]) -> None:
    """Two connections deliver in any order; a cut one continues after the position of the faster one."""
    count, steps = journey
    merge, numbers = Merger(), [1, 2]
    at = [0, 0]
    for number in numbers:
        merge.add_connection(number)
    out: list[int] = []
    now, fresh = 0, 3

    def deliver(who: int) -> None:
        at[who] += 1
        message = Message(at[who], at[who], STREAM, b"x", now, numbers[who])
        out.extend(one.first for one in merge.push(message))

    for who, step in steps:
        now += 50 * MILLISECOND
        out.extend(one.first for one in merge.flush_expired(now))
        if step == "cut" and at[1 - who] > 0:
            merge.remove_connection(numbers[who])
            numbers[who], fresh = fresh, fresh + 1
            merge.add_connection(numbers[who])
            at[who] = max(at)
        elif at[who] < count:
            deliver(who)
    for who in (0, 1):
        while at[who] < count:
            deliver(who)
    out.extend(one.first for one in merge.finish(now))
    assert out == list(range(out[0], count + 1)) if out else count == 0


@given(st.lists(st.integers(0, 40), min_size=1, max_size=200), st.integers(1, 3))
def test_what_is_let_through_never_goes_back(ids: list[int], connections: int) -> None:
    """For any ids in any order, each is emitted at most once, in order."""
    merge = Merger()
    for number in range(connections):
        merge.add_connection(number)
    out: list[int] = []
    for place, one in enumerate(ids):
        out.extend(
            m.first
            for m in merge.push(Message(one, one, STREAM, b"", place * 30 * MILLISECOND, place % connections))
        )
        out.extend(m.first for m in merge.flush_expired(place * 30 * MILLISECOND))
    out.extend(m.first for m in merge.finish(len(ids) * 30 * MILLISECOND))
    assert out == sorted(set(out))
    assert merge.held == 0


@pytest.mark.parametrize("streams", [2, 5])
def test_streams_do_not_wait_for_each_other(streams: int) -> None:
    """A hole in one stream delays no message of another."""
    merge = Merger()
    merge.add_connection(1)
    merge.add_connection(2)
    for number in range(streams):
        for connection in (1, 2):
            merge.push(Message(1, 1, str(number), b"", 0, connection))
    assert not merge.push(Message(3, 3, "0", b"", 0, 1))
    for number in range(1, streams):
        assert len(merge.push(Message(2, 2, str(number), b"", 0, 1))) == 1


def at(merge: Merger, connection: int, number: int, second: int) -> list[int]:
    """Return the ids that a message with an event time releases."""
    message = Message(
        number,
        number,
        STREAM,
        b"%d" % number,
        second * 1000 * MILLISECOND,
        connection,
        1_700_000_000_000 + second * 1000,
    )
    return [one.first for one in merge.push(message)]


def test_ids_that_the_exchange_counts_anew_go_on() -> None:
    """Lower ids with a later time are emitted once there are enough of them, and none is lost."""
    merge = Merger()
    merge.add_connection(1)
    merge.add_connection(2)
    assert at(merge, 1, 5000, 0) == [5000]
    assert at(merge, 2, 5000, 0) == []
    assert at(merge, 1, 1, 10) == []
    assert at(merge, 2, 1, 10) == []
    assert at(merge, 1, 2, 11) == []
    assert at(merge, 1, 3, 12) == [1, 2, 3]
    assert at(merge, 2, 2, 11) == []
    assert at(merge, 2, 4, 13) == [4]
    assert merge.counts.resets == 1


def test_what_a_slow_connection_repeats_is_no_new_count() -> None:
    """The messages of the slow connection have an earlier time."""
    merge = Merger()
    merge.add_connection(1)
    merge.add_connection(2)
    for number in range(1, 50):
        at(merge, 1, number, number)
    assert [at(merge, 2, number, number) for number in range(1, 50)] == [[]] * 49
    assert merge.counts.resets == 0


HOUR_S = 3600


def test_a_new_count_that_the_end_cuts_short_is_written() -> None:
    """One or two candidates wait for a third one that never comes."""
    merge = Merger()
    merge.add_connection(1)
    at(merge, 1, 5000, 0)
    assert at(merge, 1, 1, 10) == []
    assert at(merge, 1, 2, 11) == []
    assert (merge.held, merge.counts.passed) == (2, 1)
    out = merge.finish(12_000 * MILLISECOND)
    assert [(one.first, one.is_reset) for one in out] == [(1, True), (2, False)]
    assert (merge.held, merge.counts.passed, merge.counts.resets) == (0, 3, 1)


@pytest.mark.parametrize(
    ("strays", "old"),
    [
        ([(1, HOUR_S), (2, 2 * HOUR_S), (3, 3 * HOUR_S)], []),
        ([(1, HOUR_S), (2, 2 * HOUR_S), (3, 3 * HOUR_S)], [HOUR_S + 60, 2 * HOUR_S + 60]),
        ([(7, 10), (900, 11), (40, 12), (2000, 13)], [20]),
        ([(1, 10), (2, 11), (3, 20)], [15]),
    ],
    ids=["hours apart", "hours apart in a living stream", "no sequence", "the old count goes on in between"],
)
def test_strays_are_no_new_count(strays: list[tuple[int, int]], old: list[int]) -> None:
    """They are passed to `on_stray`, and the stream continues with its ids."""
    kept: list[Message] = []
    merge = Merger(on_stray=kept.append)
    merge.add_connection(1)
    at(merge, 1, 5000, 0)
    number = 5001
    for second, stray in sorted(
        [(second, first) for first, second in strays] + [(second, -1) for second in old]
    ):
        if stray < 0:
            assert at(merge, 1, number, second) == [number]
            number += 1
        else:
            assert at(merge, 1, stray, second) == []
    merge.flush_expired(10 * HOUR_S * 1000 * MILLISECOND)
    assert at(merge, 1, number, 9 * HOUR_S) == [number]
    assert sorted(one.first for one in kept) == sorted(first for first, _ in strays)
    assert (merge.counts.stray, merge.counts.resets) == (len(strays), 0)
    assert not merge.finish(10 * HOUR_S * 1000 * MILLISECOND)


def test_what_was_held_of_the_old_count_goes_before_the_new_one() -> None:
    """A message waits behind a hole when the exchange restarts its count."""
    merge = Merger()
    merge.add_connection(1)
    merge.add_connection(2)
    at(merge, 1, 5000, 0)
    at(merge, 2, 5000, 0)
    assert at(merge, 1, 5002, 9) == []
    assert at(merge, 1, 1, 10) == []
    assert at(merge, 1, 2, 10) == []
    assert at(merge, 1, 3, 10) == [5002, 1, 2, 3]


def test_a_straggler_of_the_old_count_does_not_end_the_new_one() -> None:
    """The slower connection still delivers it: recorded ids are a duplicate, others a stray."""
    kept: list[Message] = []
    merge = Merger(on_stray=kept.append)
    merge.add_connection(1)
    merge.add_connection(2)
    at(merge, 1, 5000, 0)
    for number in (1, 2, 3):
        at(merge, 1, number, 10)
    assert at(merge, 2, 5000, 0) == []
    assert at(merge, 2, 5001, 1) == []
    assert at(merge, 1, 4, 11) == [4]
    assert (merge.held, merge.counts.duplicates, [one.first for one in kept]) == (0, 1, [5001])


def test_a_closed_connection_delays_no_hole() -> None:
    """The wait is only the grace, not the time for a connection without messages."""
    one = desk(1, 2)
    for connection in (1, 2):
        one.push(connection, 1)
    one.merge.remove_connection(2)
    assert one.push(1, 3) == []
    assert one.wait(199) == []
    assert one.wait(1) == [(3, 3)]


def test_a_diff_that_reaches_into_a_lost_hole_is_late() -> None:
    """Some of its ids were never emitted, so it is not a duplicate."""
    one = desk(1)
    one.push(1, 1, 5)
    one.push(1, 9, 10)
    assert one.wait(250) == [(9, 10)]
    one.push(1, 4, 7)
    assert (one.merge.counts.late, one.merge.counts.duplicates) == (1, 0)


def test_what_precedes_the_first_message_is_counted_apart() -> None:
    """A second connection delivers ids from before the recording: neither recorded twice nor a gap."""
    one = desk(1, 2)
    one.push(1, 5)
    one.push(2, 3)
    one.push(2, 5)
    assert (one.merge.counts.early, one.merge.counts.duplicates) == (1, 1)


def test_an_overlap_that_reaches_before_the_first_message_brings_its_ids() -> None:
    """The earlier ids are recorded with it, and their repetition is a duplicate."""
    one = desk(1)
    one.push(1, 5, 6)
    one.push(1, 4, 9)
    assert one.wait(250) == [(4, 9)]
    one.push(1, 4)
    assert (one.merge.counts.early, one.merge.counts.duplicates) == (0, 1)


@st.composite
def offers(draw: st.DrawFn) -> list[tuple[int, int, int, int]]:
    """Generate connection, first id, width and event second of messages in many orders."""
    steps = draw(
        st.lists(
            st.tuples(st.integers(1, 3), st.sampled_from("nnnnnndaslr"), st.integers(0, 30)),
            min_size=1,
            max_size=120,
        )
    )
    found, number, second = [], 1000, 1
    for connection, kind, step in steps:
        second += draw(st.sampled_from([0, 1, 3]))
        if kind == "r":
            number = draw(st.integers(1, 20))
            second += 5
        first = {
            "n": number,
            "d": number - 1 - step % 5,
            "a": number + step,
            "s": draw(st.integers(1, 900)),
            "l": number - step,
            "r": number,
        }[kind]
        width = draw(st.sampled_from([1, 1, 3]))
        found.append((connection, max(1, first), width, second - 20 * (kind == "l")))
        if kind in "na":
            number = first + width
    return found


@given(offers(), st.data())
def test_every_message_is_passed_once_or_counted(
    steps: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    """For any messages, each is emitted once or counted as duplicate, late, early or stray; none is left."""
    kept: list[Message] = []
    merge = Merger(on_stray=kept.append)
    for connection in (1, 2, 3):
        merge.add_connection(connection)
    out: list[Message] = []
    offered = []
    for place, (connection, first, width, second) in enumerate(steps):
        now = place * data.draw(st.sampled_from([10, 100, 700])) * MILLISECOND
        message = Message(
            first,
            first + width - 1,
            STREAM,
            b"%d" % place,
            place * 10 * MILLISECOND,
            connection,
            1_700_000_000_000 + second * 1000,
        )
        offered.append(message)
        out.extend(merge.push(message))
        if data.draw(st.booleans()):
            out.extend(merge.flush_expired(now))
        assert merge.held + merge.counts.finished_count == len(offered)
    out.extend(merge.finish(len(steps) * 700 * MILLISECOND))
    counts = merge.counts
    assert merge.held == 0
    assert counts.finished_count == len(offered)
    assert (len(out), len(kept)) == (counts.passed, counts.stray)
    came = [one.raw for one in (*out, *kept)]
    assert len(set(came)) == len(came)
    assert {one.raw for one in out if one.is_reset} == {
        one.raw for one in out if one.is_reset and one.first > 0
    }
    assert sum(one.is_reset for one in out) == counts.resets


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.integers(1, 60), st.sampled_from([1, 2, 4])), min_size=1, max_size=150
    )
)
def test_each_class_of_a_message_is_what_it_says(steps: list[tuple[int, int, int]]) -> None:
    """A duplicate was emitted, a late one is within a gap, an early one precedes the first message.

    No count of ids is reset.
    """
    merge = Merger()
    merge.add_connection(1)
    merge.add_connection(2)
    out: list[Message] = []
    classes: dict[str, list[Message]] = {"duplicates": [], "late": [], "early": []}
    for place, (connection, first, width) in enumerate(steps):
        message = Message(
            first, first + width - 1, STREAM, b"%d" % place, place * 60 * MILLISECOND, connection
        )
        before = {name: getattr(merge.counts, name) for name in classes}
        passed = merge.push(message)
        out.extend(passed)
        now = {name: getattr(merge.counts, name) for name in classes}
        if message not in passed and not merge.held and now != before:
            name = next(name for name in classes if now[name] > before[name])
            classes[name].append(message)
            covered = {number for one in out for number in range(one.first, one.last + 1)}
            ids = set(range(message.first, message.last + 1))
            expected = "duplicates" if ids <= covered else "early" if min(ids) < out[0].first else "late"
            assert name == expected
        out.extend(merge.flush_expired(place * 60 * MILLISECOND))
