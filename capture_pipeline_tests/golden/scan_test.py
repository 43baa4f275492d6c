"""Tests that the fast scan has the same result as a simple one: lines, stamps and ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.golden.scan.parallel import find_cut, scan, scan_halves
from capture_pipeline.golden.scan.scanner import Scan, scan_part
from capture_pipeline.sessions.continuity import Track
from capture_pipeline_tests.support.sessions.lines import START_NS, depth, recording, snapshot, trade, written

SOUND = trade(1, START_NS)


def counted(block: bytes) -> Scan:
    found = Scan(Path("x"))
    found.process_block(block)
    return found


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.integers(0, 4)), max_size=60), st.booleans())
def test_ids_are_counted_as_a_track_counts_them(messages: list[tuple[bool, int, int]], usual: bool) -> None:
    """Gaps, duplicates, overlaps and losses equal those of `Track`, in whole blocks and line by line."""
    tracks, breaks, lines = {"btcusdt@trade": Track(), "btcusdt@depth@100ms": Track()}, [], []
    for index, (is_trade, first, width) in enumerate(messages):
        name, last = ("btcusdt@trade", first) if is_trade else ("btcusdt@depth@100ms", first + width)
        lines.append(trade(first, START_NS + index) if is_trade else depth(first, last, START_NS + index))
        before = tracks[name].last
        if tracks[name].count(first, last):
            breaks.append((name, before, first))
    odd = [] if usual else [b'{"capture_ns":%d,"stream":"!all@arr","data":[]}\n' % (START_NS + len(lines))]
    found = counted(b"".join(lines + odd))
    assert not found.bad_count
    assert {name: stream.track for name, stream in found.streams.items() if "@arr" not in name} == {
        name: track for name, track in tracks.items() if track.messages
    }
    seen = [
        (gap.stream, gap.last_good_id, gap.first_good_id)
        for stream in found.streams.values()
        for gap in stream.breaks
    ]
    assert sorted(seen) == sorted(breaks)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        SOUND[:-2],
        SOUND[:-1].replace(b'"capture_ns":', b'"capture_ns": '),
        SOUND[:-1].replace(b',"stream"', b', "stream"'),
        SOUND[:-1].replace(b'"data":', b'"data": '),
        SOUND[:-2] + b" }",
        SOUND[:-1] + b" ",
        SOUND[:-1] + b"\r",
        SOUND[:-2] + b',"more":{}}',
        SOUND[:-1].replace(b'"capture_ns":1', b'"capture_ns":01'),
        SOUND[:-1].replace(b'"capture_ns":1', b'"capture_ns":-1'),
        SOUND[:-1].replace(b"btcusdt@trade", b"\\u0062tcusdt@trade"),
        SOUND[:-1].replace(b'"t":1,', b""),
        SOUND[:-1].replace(b'"t":1,', b'"t":"1",'),
        SOUND[:-1].replace(b'"t":1,', b'"t":1,,'),
        SOUND[:-1].replace(b'"q":"2.00000000"', b'"q":2.0.0'),
        depth(5, 4, START_NS)[:-1],
        depth(5, 6, START_NS)[:-1].replace(b'"U":5,', b""),
        snapshot(5, START_NS)[:-1].replace(b"lastUpdateId", b"last"),
        b'{"stream":"btcusdt@trade","capture_ns":1,"data":{"t":1}}',
        b'{"capture_ns":1,"data":{"t":1},"stream":"btcusdt@trade"}',
        b'{"capture_ns":1,"stream":"btcusdt@trade","data":[1]}',
    ],
)
def test_a_bad_line_is_told_by_its_number(bad: bytes) -> None:
    """A line with another form or without valid ids is counted and reported.

    The lines around it are counted as usual.
    """
    found = counted(SOUND + bad + b"\n" + trade(2, START_NS + 1))
    assert (found.lines, found.bad_count) == (3, 1)
    assert found.bad_examples[0].startswith("line 2: ")
    assert found.streams["btcusdt@trade"].track.last == 2


BAD_BYTES = [b"\xff\xfe", b"\xc3", b"\xed\xa0\x80"]
TWICE = [
    b'"stream":"x@y","data":{"t":7},"stream":"btcusdt@trade","data":{"t":2}',
    b'"stream":"btcusdt@trade","data":{"t":7},"data":{"t":2}',
    b'"stream":"btcusdt@trade","data":{"t":7} \t,\r "data" :{"t":2}',
    b'"stream":"btcusdt@trade","data":{"t":7},"\\u0064ata":{"t":2}',
    b'"stream":"btcusdt@trade","data":{"t":7},"capture_ns":5,"data":{"t":2}',
    b'"stream":"btcusdt@bookTicker","data":{"x":{"y":{}}},"stream":"btcusdt@bookTicker","data":{}',
]


@pytest.mark.parametrize("usual", [True, False])
@pytest.mark.parametrize(
    "bad",
    [
        *(SOUND[:-1].replace(b'"e":"trade"', b'"e":"tr' + text + b'ade"') for text in BAD_BYTES),
        *(SOUND[:-1].replace(b'"p":', b'"p' + text + b'":') for text in BAD_BYTES),
        *(
            b'{"capture_ns":%d,"stream":"btcusdt@x","data":{"x":"%b"}}' % (START_NS, text)
            for text in BAD_BYTES
        ),
        *(b'{"capture_ns":%d,%b}' % (START_NS, rest) for rest in TWICE),
    ],
)
def test_what_the_decoder_skips_or_takes_the_last_of_is_a_bad_line(bad: bytes, usual: bool) -> None:
    """The line contains invalid UTF-8 in an unused field, or a second key at the top level."""
    odd = b"" if usual else b'{"capture_ns":%d,"stream":"!all@arr","data":[]}\n' % START_NS
    found = counted(
        SOUND + bad + b"\n" + trade(2, START_NS + 1) + odd.replace(b"%d" % START_NS, b"%d" % (START_NS + 1))
    )
    assert (found.lines, found.bad_count) == (4 - usual, 1)
    assert found.bad_examples[0].startswith("line 2: ")
    assert found.streams["btcusdt@trade"].track == Track(1, 2, 2)


def test_a_bad_line_of_the_second_half_is_found(tmp_path: Path) -> None:
    """A line with invalid UTF-8 keeps its number even if two processes share the file."""
    lines = recording(2000)
    bad = lines[1500].replace(b'"e":"trade"', b'"e":"tr\xffade"')
    path = written(tmp_path / "x.jsonl.gz", [*lines[:1500], bad, *lines[1501:]])
    assert scan_halves(path, 0) is None
    assert scan(path).bad_examples[0].startswith("line 1,501: ")


@pytest.mark.parametrize(
    "line",
    [
        b'{"capture_ns":1,"stream":"!miniTicker@arr","data":[{"u":"x"}]}',
        (
            b'{"capture_ns":1,"stream":"btcusdt@bookTicker","data":{"u":5,"s":"BTCUSDT","b":"1","B":"1",'
            b'"a":"1","A":"1"}}'
        ),
        b'{"capture_ns":1,"stream":"btcusdt@trade","data":{"t":1, "x": {"t": "y"}}}',
        b'{"capture_ns":1,"stream":"btcusdt@trade","data":{"x":"\\"data\\":{","t":1}}',
        (
            b'{"capture_ns":1,"stream":"btcusdt@trade","data":{"x":{"y":{}},"data":{"data":2},"stream":3,'
            b'"capture_ns":4,"t":1}}'
        ),
        '{"capture_ns":1,"stream":"btcusdt@trade","data":{"x":"é𝄞","t":1}}'.encode(),
    ],
)
def test_what_the_exchange_may_send_is_a_good_line(line: bytes) -> None:
    """Data may contain arrays, other streams, blanks and escapes."""
    found = counted(line + b"\n")
    assert (found.lines, found.bad_count) == (1, 0)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_stamps_that_go_back_are_counted(steps: list[int]) -> None:
    """A stamp below an earlier one is reported with its line. Equal stamps are in order."""
    found = counted(b"".join(trade(number + 1, START_NS + step) for number, step in enumerate(steps)))
    expected = [number for number, step in enumerate(steps) if step < max(steps[:number], default=0)]
    assert found.disorder_count == len(expected)
    assert [text.split(":")[0] for text in found.disorder_examples] == [
        f"line {number + 1}" for number in expected[:5]
    ]
    assert (found.first_ns, found.last_ns) == (START_NS + steps[0], START_NS + max(steps))


def test_a_range_that_runs_backwards_is_no_continuation() -> None:
    """A diff whose last id is below its first id is a bad line and does not advance the stream."""
    found = counted(depth(1, 3, START_NS) + depth(4, 2, START_NS) + depth(4, 5, START_NS))
    assert found.bad_count == 1
    assert found.streams["btcusdt@depth@100ms"].track == Track(1, 5, 2)


def test_futures_continue_by_their_predecessor(tmp_path: Path) -> None:
    """A diff whose `pu` equals the previous `u` continues the stream, for any `U`."""
    lines = [
        depth(first, last, START_NS).replace(b',"b"', b',"pu":%d,"b"' % previous)
        for first, last, previous in ((5, 9, 3), (20, 30, 9), (40, 50, 31))
    ]
    stream = scan(written(tmp_path / "x.gz", lines)).streams["btcusdt@depth@100ms"]
    assert [(gap.last_good_id, gap.first_good_id) for gap in stream.breaks] == [(30, 32)]


def test_a_sound_recording_is_sound(tmp_path: Path) -> None:
    """The other tests damage this recording, which has no fault itself."""
    found = scan(written(tmp_path / "x.gz", recording(200)))
    assert (found.lines, found.bad_count, found.disorder_count, found.findings) == (201, 0, 0, [])
    assert all(not stream.track.gaps for stream in found.streams.values())


def same(ours: Scan, theirs: Scan) -> bool:
    figures = [
        (scan.lines, scan.bad_count, scan.disorder_count, scan.first_ns, scan.last_ns, scan.streams)
        for scan in (ours, theirs)
    ]
    return figures[0] == figures[1]


@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(1, 30), st.integers(0, 4), st.integers(-1, 3)), max_size=40
    ),
    st.integers(0, 40),
)
def test_two_parts_give_what_one_pass_gives(messages: list[tuple[bool, int, int, int]], cut: int) -> None:
    """For any cut, the merged parts equal one pass, or the merge is rejected."""
    stamp, lines = START_NS, []
    for is_trade, first, width, step in messages:
        stamp += step
        lines.append(trade(first, stamp) if is_trade else depth(first, first + width, stamp))
    first_half, whole = counted(b"".join(lines[:cut])), counted(b"".join(lines))
    if first_half.merge(counted(b"".join(lines[cut:]))):
        assert same(first_half, whole)
    else:
        assert whole.disorder_count or any(
            stream.track.duplicates or stream.track.overlaps for stream in whole.streams.values()
        )


@given(st.sets(st.integers(0, 300), max_size=12), st.integers(0, 301))
def test_two_parts_of_a_rising_recording_always_fit(gone: set[int], cut: int) -> None:
    """The parts are merged exactly, even with a gap at the cut or a stream in only one part."""
    lines = [line for number, line in enumerate(recording(300)) if number not in gone]
    first_half = counted(b"".join(lines[:cut]))
    assert first_half.merge(counted(b"".join(lines[cut:])))
    assert same(first_half, counted(b"".join(lines)))


@pytest.mark.parametrize(("stamp", "fits"), [(START_NS - 1, False), (START_NS, True)])
def test_parts_whose_stamps_go_back_do_not_fit(stamp: int, fits: bool) -> None:
    """If the second part begins before the first one ends, only one pass can count the lines that go back."""
    first_half = counted(trade(1, START_NS))
    assert first_half.merge(counted(trade(2, stamp))) is fits
    assert first_half.lines == 1 + fits


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    """A file that is cut near its middle gives the same figures, size and digest."""
    path = written(
        tmp_path / "x.jsonl.gz",
        [line for number, line in enumerate(recording(2000)) if number not in {5, 1000, 1500}],
    )
    halves, whole = scan_halves(path, 0), scan_part(path)
    assert halves is not None
    assert same(halves, whole)
    assert (halves.size, halves.sha256, halves.findings) == (whole.size, whole.sha256, [])


def test_a_torn_second_half_is_found_at_its_byte(tmp_path: Path) -> None:
    """A finding of the second process contains the position in the whole file."""
    path = written(tmp_path / "x.jsonl.gz", recording(2000))
    path.write_bytes(path.read_bytes()[:-5])
    halves, whole = scan_halves(path, 0), scan_part(path)
    assert halves is not None
    assert halves.findings == whole.findings != []
    assert (halves.lines, halves.sha256) == (whole.lines, whole.sha256)


@pytest.mark.parametrize("harm", [b"nonsense\n", trade(1, 1)])
def test_halves_that_do_not_fit_are_left_to_one_pass(tmp_path: Path, harm: bytes) -> None:
    """Only one pass knows the line numbers of bad lines and of stamps that go back."""
    lines = recording(2000)
    path = written(tmp_path / "x.jsonl.gz", [*lines[:1500], harm, *lines[1500:]])
    assert scan_halves(path, 0) is None
    found = scan(path)
    assert (found.bad_examples or found.disorder_examples)[0].startswith("line 1,501: ")


def test_a_file_without_members_is_not_cut(tmp_path: Path) -> None:
    """Plain lines and a single gzip member are read in one pass."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"".join(recording(100)))
    assert find_cut(path, 100) is None
    assert scan_halves(path, 0) is None


@pytest.mark.parametrize(
    "extra", ["", ',"x":{"a":[1]}'], ids=["as the exchange writes it", "in another layout"]
)
def test_aggregates_continue_by_their_own_ids(extra: str) -> None:
    """Aggregate trades have ids of their own, under the key that a diff uses for its asks."""
    form = (
        '{"capture_ns":%d,"stream":"btcusdt@aggTrade","data":'
        '{"e":"aggTrade","E":1,"s":"BTCUSDT","a":%d,"p":"1.0","q":"1.0","f":%d,"l":%d,"T":1,"m":true%s}}\n'
    )
    lines = [form % (number, number, 7 * number, 7 * number + 6, extra) for number in (1, 2, 5, 6)]
    found = counted("".join(lines).encode()).streams["btcusdt@aggTrade"]
    assert [(one.last_good_id, one.first_good_id) for one in found.breaks] == [(2, 5)]
    assert found.track.lost == 2
