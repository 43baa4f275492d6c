"""Tests of the quality score of a folder of recordings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.errors import ConfigError
from capture_pipeline.golden.comparison.continuous_spans import find_stretches
from capture_pipeline.golden.quality_score import diagnose, join_spans
from capture_pipeline.golden.scan.scanner import Scan
from capture_pipeline.sessions.continuity import CaptureRange
from capture_pipeline_tests.support.sessions.lines import START_NS, packed, recording, session, trade, written


def trades(first: int, count: int, start_s: float) -> list[bytes]:
    """Generate ten trades per second, from a given second on."""
    return [trade(first + number, START_NS + int((start_s + number / 10) * 1e9)) for number in range(count)]


def test_a_finished_session_is_worth_all(tmp_path: Path) -> None:
    """The ledger and the events are not recordings, and files in quarantine are ignored."""
    folder = session(tmp_path, recording())
    folder.quarantine.mkdir()
    (folder.quarantine / "torn.jsonl.gz").write_bytes(b"x")
    result = diagnose(folder.path)
    assert [file.path for file in result.files] == [folder.recording.name]
    assert (result.score, result.passed) == (100.0, True)


def test_the_score_follows_its_formula(tmp_path: Path) -> None:
    """Two files are ten seconds apart, and a fragment is torn. Each part of the score follows its formula."""
    written(tmp_path / "a.jsonl.gz", trades(1, 201, 0))
    written(tmp_path / "b.jsonl.gz", trades(202, 101, 30))
    torn = packed(trades(303, 41, 40.1), 20)
    (tmp_path / "c.jsonl.gz.part").write_bytes(torn[:-9])
    result = diagnose(tmp_path)
    (series,) = result.series
    assert series.gaps == [(START_NS + 20 * 10**9, START_NS + 30 * 10**9)]
    assert [series.span_s, series.continuous_s, series.longest_s] == pytest.approx(
        [44.0, 34.0, 20.0], abs=0.2
    )
    assert result.parts == {
        "coverage": pytest.approx(series.continuous_s / series.span_s),
        "continuity": pytest.approx(20 / series.span_s),
        "wholeness": pytest.approx(2 / 3),
        "completeness": 1.0,
    }
    expected = 40 * result.parts["coverage"] + 20 * result.parts["continuity"] + 20 * 2 / 3 + 20
    assert result.score == pytest.approx(expected, abs=0.01)
    assert "fragment" in result.files[2].troubles[0]
    assert "torn member" in result.files[2].troubles[1]


def test_missing_ids_end_a_stretch_and_lower_the_score(tmp_path: Path) -> None:
    """Time inside a gap is not covered, even if the gap is inside one file."""
    lines = trades(1, 301, 0)
    written(tmp_path / "a.jsonl.gz", lines[:100] + lines[250:])
    result = diagnose(tmp_path)
    assert result.series[0].gaps == [(START_NS + 9_900_000_000, START_NS + 25_000_000_000)]
    assert result.parts["completeness"] == 0.0
    assert not result.passed


@pytest.mark.parametrize("is_one_file", [True, False])
def test_missing_ids_end_a_stretch_however_short_they_take(tmp_path: Path, is_one_file: bool) -> None:
    """Two ids are missing within 0.3 s, inside one file or between two files."""
    lines = trades(1, 41, 0)
    if is_one_file:
        written(tmp_path / "a.jsonl.gz", lines[:20] + lines[22:])
    else:
        written(tmp_path / "a.jsonl.gz", lines[:20])
        written(tmp_path / "b.jsonl.gz", lines[22:])
    (series,) = diagnose(tmp_path).series
    assert series.gaps == [(START_NS + 1_900_000_000, START_NS + 2_200_000_000)]
    assert (series.span_s, series.continuous_s, series.longest_s) == pytest.approx((4.0, 3.7, 1.9))


def test_ids_of_another_file_are_not_missing(tmp_path: Path) -> None:
    """Of two recorders that run in parallel, only ids that both of them miss are a gap.

    Files whose ids are consecutive, without overlap, form one stretch.
    """
    lines = trades(1, 101, 0)
    written(tmp_path / "a.jsonl.gz", lines[:30] + lines[40:70])
    written(tmp_path / "b.jsonl.gz", lines[20:50] + lines[60:65] + lines[80:])
    (series,) = diagnose(tmp_path).series
    assert series.gaps == [(START_NS + 6_900_000_000, START_NS + 8_000_000_000)]


@pytest.mark.parametrize(("silent_s", "holes"), [(1.9, 0), (2.0, 0), (2.5, 1)])
def test_silence_ends_a_stretch_within_a_file_too(tmp_path: Path, silent_s: float, holes: int) -> None:
    """More than two seconds without a message are a gap, even if no id is missing.

    Messages of another file in this time close the gap.
    """
    written(tmp_path / "a.jsonl.gz", trades(1, 50, 0) + trades(51, 50, 4.9 + silent_s))
    (series,) = diagnose(tmp_path).series
    assert len(series.gaps) == holes
    written(tmp_path / "b.jsonl.gz", trades(41, 60, 4.5))
    assert diagnose(tmp_path).series[0].gaps == []


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), min_size=1, max_size=6))
def test_stretches_are_the_times_whose_ids_are_there(parts: list[tuple[int, int]]) -> None:
    """The stretches of overlapping and incomplete files equal those of a search over every id."""
    kept = [range(first, first + count) for first, count in parts]
    scans = []
    for ids in kept:
        found = Scan(Path("x"))
        found.process_block(b"".join(trade(number, START_NS + number * 10**8) for number in ids))
        scans.append(found)
    there = {number for ids in kept for number in ids}
    expected: list[tuple[int, int]] = []
    for number in sorted(there):
        start = expected.pop()[0] if number - 1 in there else number
        expected.append((start, number))
    assert find_stretches(scans) == [
        (START_NS + start * 10**8, START_NS + end * 10**8) for start, end in expected
    ]


@pytest.mark.parametrize("damage", ["member", "cut", "line", "unreadable"])
def test_a_folder_with_a_damaged_file_cannot_pass(tmp_path: Path, damage: str) -> None:
    """One damaged file limits the score. The torn end of a growing file does not."""
    for number in range(30):
        written(tmp_path / f"{number:02}.jsonl.gz", trades(number * 20 + 1, 20, number * 2))
    assert diagnose(tmp_path).score == 100
    path = tmp_path / "29.jsonl.gz"
    content = path.read_bytes()
    if damage == "line":
        written(path, [*trades(581, 20, 58), b"no line\n"])
    elif damage == "unreadable":
        (tmp_path / "30.jsonl.gz").write_bytes(b"\x1f\x8b" + b"x" * 50)
    else:
        path.write_bytes(
            content[:-9] if damage == "cut" else content[:40] + bytes([content[40] ^ 255]) + content[41:]
        )
    result = diagnose(tmp_path)
    assert (result.score, result.passed, result.is_damaged) == (50, False, True)
    if damage == "cut":
        path.rename(tmp_path / "29.jsonl.gz.part")
        assert diagnose(tmp_path).score > 90


def test_fragments_every_minute_fail_the_gate(tmp_path: Path) -> None:
    """Many short files with gaps between them have a low score, even if each file is whole."""
    for number in range(10):
        written(tmp_path / f"{number}.jsonl.gz", trades(number * 1000 + 1, 100, number * 60))
    result = diagnose(tmp_path)
    assert len(result.series[0].gaps) == 9
    assert (result.parts["wholeness"], result.passed) == (1.0, False)


def test_symbols_are_series_of_their_own(tmp_path: Path) -> None:
    """A gap in the files of one symbol is not covered by the files of another symbol."""
    written(tmp_path / "a.jsonl.gz", trades(1, 50, 0))
    written(tmp_path / "b.jsonl.gz", trades(51, 50, 60))
    written(tmp_path / "c.jsonl.gz", [line.replace(b"btcusdt", b"ethusdt") for line in trades(1, 650, 0)])
    result = diagnose(tmp_path)
    assert {series.symbols: len(series.gaps) for series in result.series} == {
        ("BTCUSDT",): 1,
        ("ETHUSDT",): 0,
    }


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], []),
        ([(0, 5), (5, 9)], [(0, 9)]),
        ([(6, 9), (0, 5)], [(0, 5), (6, 9)]),
        ([(0, 9), (2, 3)], [(0, 9)]),
        ([(0, 1), (1, 1), (4, 5)], [(0, 1), (4, 5)]),
    ],
)
def test_stretches_join_where_they_meet(
    spans: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    """Stretches that overlap or touch become one stretch."""
    assert join_spans((CaptureRange(*span) for span in spans), 0) == expected


@pytest.mark.parametrize("content", [None, b""])
def test_nothing_to_look_at_is_told(tmp_path: Path, content: bytes | None) -> None:
    """A missing folder and a folder without captures are errors. An empty file is a capture with score 0."""
    if content is None:
        with pytest.raises(ConfigError, match="is not a folder"):
            diagnose(tmp_path / "none")
        with pytest.raises(ConfigError, match="contains no recording"):
            diagnose(tmp_path)
        return
    (tmp_path / "x.jsonl.gz.part").write_bytes(content)
    assert diagnose(tmp_path).score == 0.0
