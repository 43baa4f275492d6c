"""Tests that duplicate keys are found, and that the layouts of the exchange use the fast path."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.golden.scan.line_layouts import split_by_layout
from capture_pipeline_tests.golden.scan_test import counted
from capture_pipeline_tests.support.sessions.lines import START_NS, depth, snapshot, trade


def message(stream: str, data: str) -> bytes:
    return b'{"capture_ns":%d,"stream":"%b","data":%b}\n' % (START_NS, stream.encode(), data.encode())


KNOWN = {
    "trade": trade(7, START_NS),
    "diff": depth(5, 6, START_NS, '["10.00000000","1.00000000"],["11.00000000","0.00000000"]'),
    "aggregate": message(
        "btcusdt@aggTrade",
        '{"e":"aggTrade","E":1,"s":"BTCUSDT","a":3,"p":"1.0","q":"2.0","f":4,"l":5,"T":1,"m":true,"M":true}',
    ),
    "futures' aggregate": message(
        "btcusdt@aggTrade",
        (
            '{"e":"aggTrade","E":1,"s":"BTCUSDT","a":3,"p":"1.0","q":"2.0","nq":"2.0","f":4,"l":5,'
            '"T":1,"m":false}'
        ),
    ),
    "futures' diff": message(
        "btcusdt@depth@100ms",
        '{"e":"depthUpdate","E":1,"T":1,"s":"BTCUSDT","U":8,"u":9,"pu":6,"b":[["1.0","2.0"]],"a":[]}',
    ),
    "futures' trade": message(
        "btcusdt@trade",
        '{"e":"trade","E":1,"T":1,"s":"BTCUSDT","t":7,"p":"1.0","q":"2.0","X":"MARKET","m":true,"st":1}',
    ),
    "futures' diff with pair and type": message(
        "btcusdt@depth@100ms",
        (
            '{"e":"depthUpdate","E":1,"T":1,"s":"BTCUSDT","ps":"BTCUSDT","U":8,"u":9,"pu":6,'
            '"b":[],"a":[["1.0","2.0"]],"st":1}'
        ),
    ),
    "best prices": message(
        "btcusdt@bookTicker", '{"u":9,"s":"BTCUSDT","b":"1.0","B":"2.0","a":"3.0","A":"4.0"}'
    ),
}
OTHER = {
    "snapshot": snapshot(5, START_NS),
    "another event": message("btcusdt@kline_1m", '{"e":"kline","k":{"t":1,"T":2},"E":1}'),
}


def test_known_layouts_are_read_at_once_and_others_line_by_line() -> None:
    """A line in another layout leaves the fast path, and the lines around it do not."""
    known, odd = b"".join(KNOWN.values()), OTHER["snapshot"]
    assert list(split_by_layout(known)) == [(known, True)]
    assert list(split_by_layout(known + odd + odd + known)) == [
        (known, True),
        (odd, False),
        (odd, False),
        (known, True),
    ]
    assert list(split_by_layout(odd)) == [(odd, False)]
    assert not list(split_by_layout(b""))


@pytest.mark.parametrize("line", [*KNOWN.values(), OTHER["snapshot"]], ids=[*KNOWN, "snapshot"])
def test_a_key_that_stands_twice_is_a_bad_line(line: bytes) -> None:
    """Each key is repeated before each other key and at the end, plain or escaped.

    The lines around the bad line are counted.
    """
    start = line.index(b'"data":') + len(b'"data":') + 1
    keys = {found[1]: start + found.start() for found in re.finditer(rb'"(\w+)":', line[start:])}
    for key in keys:
        for name in (key, b"\\u%04x" % key[0] + key[1:]):
            inside = [line[:at] + b'"%b":4,' % name + line[at:] for at in keys.values()]
            for bad in [*inside, line[:-3] + b',"%b":4}}\n' % name]:
                found = counted(KNOWN["trade"] + bad + trade(8, START_NS))
                assert (found.lines, found.bad_count, found.streams["btcusdt@trade"].track.last) == (
                    3,
                    1,
                    8,
                ), bad
                assert found.bad_examples[0].startswith("line 2: ")


@pytest.mark.parametrize("line", KNOWN.values(), ids=KNOWN)
def test_a_key_in_the_place_of_another_is_a_bad_line(line: bytes) -> None:
    """The number of keys is right, but one key is repeated and another one is missing."""
    start = line.index(b'"data":') + len(b'"data":') + 1
    keys = re.findall(rb'"(\w+)":', line[start:])
    for key, other in itertools.permutations(keys, 2):
        bad = line[:start] + line[start:].replace(b'"%b":' % key, b'"%b":' % other)
        assert counted(bad + KNOWN["trade"]).bad_count == 1, bad


def test_the_key_is_named() -> None:
    bad = KNOWN["trade"].replace(b'"t":7,', b'"t":6,"t":7,')
    assert "line 1: has the key 't' twice" in counted(bad).bad_examples[0]


def test_a_key_of_an_inner_object_is_none_of_the_outer() -> None:
    """An inner object may contain a key `t` of its own."""
    assert not counted(b"".join(OTHER.values())).bad_count


ODD = [b"\n", b"[]\n", b"}}\n", b" }}\n", b'"x"\n', b'{"capture_ns":\n']


@given(st.lists(st.sampled_from([*KNOWN.values(), *OTHER.values(), *ODD]), max_size=12))
def test_runs_are_the_block(lines: list[bytes]) -> None:
    """No byte is lost or repeated."""
    assert b"".join(piece for piece, _ in split_by_layout(b"".join(lines))) == b"".join(lines)


@given(st.lists(st.sampled_from([*KNOWN.values(), *ODD]), max_size=12))
def test_lines_that_are_none_are_counted_each(lines: list[bytes]) -> None:
    """Invalid lines are counted one by one, for any lines around them."""
    assert counted(b"".join(lines)).bad_count == sum(line not in KNOWN.values() for line in lines)
