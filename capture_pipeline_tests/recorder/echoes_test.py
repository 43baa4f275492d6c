"""Detection of copies of messages by their bytes, with the counts of the merger."""

from __future__ import annotations

from dataclasses import asdict

from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.recorder.ordering.duplicate_filter import _GENERATION, DuplicateFilter
from capture_pipeline.recorder.ordering.merger import Merger, Message


def message(number: int, connection: int = 1) -> Message:
    return Message(number, number, "a@trade", b"%d" % number, 0, connection)


def test_an_echo_is_known_once() -> None:
    """With two connections there is one copy; a third one is parsed again."""
    echoes = DuplicateFilter()
    one = message(7)
    echoes.add(one)
    assert echoes.pop(b"7") is one
    assert echoes.pop(b"7") is None
    assert echoes.pop(b"8") is None


def test_what_lies_far_back_is_forgotten() -> None:
    """Otherwise the messages of a lost connection would stay in memory."""
    echoes = DuplicateFilter()
    for number in range(10 * _GENERATION):
        echoes.add(message(number))
    assert len(echoes._young) + len(echoes._old) <= 2 * _GENERATION
    assert echoes.pop(b"%d" % (9 * _GENERATION)) is not None
    assert echoes.pop(b"0") is None


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 30)), max_size=80))
def test_an_echo_does_what_the_whole_way_would_do(arrivals: list[tuple[int, int]]) -> None:
    """The same messages are emitted, with the same counts, in any order of two connections."""
    plain, short, echoes = Merger(), Merger(), DuplicateFilter()
    for merge in (plain, short):
        merge.add_connection(1)
        merge.add_connection(2)
    for now, (connection, number) in enumerate(arrivals):
        one = message(number, connection)
        one.received_ns = now
        passed = plain.push(one)
        known = echoes.pop(one.raw)
        if known is not None:
            short.count_repeat(known, connection)
            assert not passed
            continue
        found = short.push(one)
        assert list(found) == list(passed)
        for each in found:
            echoes.add(each)
    assert asdict(plain.counts) == asdict(short.counts)
    assert list(plain.finish(10**12)) == list(short.finish(10**12))
    assert asdict(plain.counts) == asdict(short.counts)
