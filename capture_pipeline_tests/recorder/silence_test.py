"""Rules for silent connections: times of events as input, pings and replacements as output."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest

from capture_pipeline.recorder.connections.silence import Silence

LIMIT_S = 8.0
HOUR_S = 3600.0


@dataclass
class Wire:
    """A connection whose peer answers pings at once, or never."""

    number: int
    last_s: float = 0.0
    last_bytes_s: float = 0.0
    pinged_s: float | None = None
    messages: int = 0
    answers: bool = True

    def take(self, now_s: float) -> None:
        """Receive a message."""
        self.last_s = self.last_bytes_s = now_s
        self.messages += 1


class Course:
    """Connections to one address over simulated time, checked each second."""

    def __init__(self, count: int) -> None:
        self.wires = [Wire(number) for number in range(1, count + 1)]
        self.rule = Silence(LIMIT_S)
        self.now_s = 0.0
        self.pings = 0
        self.replaced: list[tuple[float, int, str]] = []

    def run(self, until_s: float, every_s: float | None, *, wires: list[Wire] | None = None) -> None:
        """Simulate until a time.

        Some connections get a message each `every_s`; replaced connections start again.
        """
        first_s = self.now_s
        while self.now_s < until_s:
            self.now_s += 1
            if (
                every_s is not None
                and (self.now_s - first_s) // every_s > (self.now_s - 1 - first_s) // every_s
            ):
                for wire in self.wires if wires is None else wires:
                    wire.take(self.now_s - 0.5)
            for wire, reason in list(self.rule.check(self.wires, self.now_s)):
                if reason:
                    self.replaced.append((self.now_s, wire.number, reason))
                    self.wires.remove(wire)
                    self.wires.append(Wire(wire.number + 100, self.now_s, self.now_s, answers=wire.answers))
                else:
                    self.pings += 1
                    wire.pinged_s = self.now_s
                    if wire.answers:
                        wire.last_bytes_s = self.now_s + 0.1


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("every_s", [1, 9, 15, 20, 300, None])
def test_a_quiet_stream_whose_peer_answers_pings_is_never_replaced(count: int, every_s: float | None) -> None:
    """The simulation covers an hour with one connection or two."""
    course = Course(count)
    course.run(HOUR_S - 1, every_s)
    assert course.replaced == []
    assert (course.pings > 0) == (every_s != 1)


def test_a_ping_is_sent_at_most_twice_within_the_limit() -> None:
    course = Course(1)
    course.run(80, None)
    assert 10 <= course.pings <= 20


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("every_s", [1, 15])
def test_a_dead_peer_is_noticed_within_the_limit(every_s: float, count: int) -> None:
    """Two seconds are added for the checks, which run each second; a quiet stream makes no difference."""
    course = Course(count)
    course.run(50, every_s)
    dead = course.wires[0]
    dead.answers = False
    course.run(50 + LIMIT_S + 2, every_s, wires=course.wires[1:])
    assert [number for _, number, _ in course.replaced] == [1]
    assert "not even the answer to a ping" in course.replaced[0][2]


@pytest.mark.parametrize("every_s", [1, 15])
def test_a_connection_that_lacks_what_another_one_brings_is_replaced_though_it_answers_pings(
    every_s: float,
) -> None:
    """The replacement comes within the limit after the first missing message, which comes `every_s` later."""
    course = Course(2)
    course.run(150, every_s)
    course.run(150 + every_s + LIMIT_S + 3, every_s, wires=course.wires[1:])
    assert [
        (number, "while another connection received data" in reason) for _, number, reason in course.replaced
    ] == [(1, True)]


def test_one_message_that_comes_seconds_apart_on_two_connections_replaces_none() -> None:
    course = Course(2)
    for start_s in range(0, 600, 15):
        course.wires[0].take(start_s)
        course.wires[1].take(start_s + 3)
        course.run(start_s + 15, None)
    assert course.replaced == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_busy_market_that_falls_silent_is_asked_again_at_growing_intervals(count: int) -> None:
    """The first attempt comes after the limit, one connection at a time.

    Later attempts become rare, up to one an hour within a day.
    """
    course = Course(count)
    course.run(200, 1)
    course.run(200 + 24 * HOUR_S, None)
    times = [now_s - 200 for now_s, _, _ in course.replaced]
    assert times[0] <= LIMIT_S + 2
    waits = [after - before for before, after in pairwise(times)]
    assert waits == sorted(waits)
    assert waits[0] > LIMIT_S
    assert 24 < len(times) <= 24 + 10


def test_pauses_that_were_seen_lately_are_no_silence() -> None:
    """A busy stream that becomes quiet costs at most one connection per step."""
    course = Course(2)
    course.run(300, 1)
    course.run(2000, 20)
    course.run(6000, 100)
    assert len(course.replaced) <= 2


def test_a_pause_is_forgotten() -> None:
    """A stream that is busy again is watched closely again after an hour or two."""
    course = Course(1)
    course.run(2000, 10)
    course.run(2000 + 2.1 * HOUR_S, 1)
    course.run(course.now_s + LIMIT_S + 2, None)
    assert len(course.replaced) == 1


def test_a_process_that_was_held_up_does_not_take_its_peer_for_gone() -> None:
    """The answer to the last ping arrived and is read only after the check."""
    wire = Wire(1, pinged_s=4.5)
    rule = Silence(LIMIT_S)
    assert list(rule.check([wire], 4.6)) == []
    assert list(rule.check([wire], 20.0)) == []
    wire.last_bytes_s = 20.1
    assert list(rule.check([wire], 20.5)) == []
    assert [reason for _, reason in rule.check([wire], 21.0)] == []


def test_nothing_is_done_without_a_connection() -> None:
    assert list(Silence(LIMIT_S).check([], 5.0)) == []
