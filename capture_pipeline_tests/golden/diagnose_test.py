"""What a folder of captures is worth."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture_pipeline.errors import ConfigError
from capture_pipeline.golden.diagnose import diagnose, joined
from capture_pipeline_tests.golden.made import START_NS, packed, recording, session, trade, written


def trades(first: int, count: int, start_s: float) -> list[bytes]:
    """Ten trades a second from a number of seconds on."""
    return [trade(first + number, START_NS + int((start_s + number / 10) * 1e9)) for number in range(count)]


def test_a_finished_session_is_worth_all(tmp_path: Path) -> None:
    """Its ledger and events are no captures; what stands in quarantine is not looked at."""
    folder = session(tmp_path, recording())
    folder.quarantine.mkdir()
    (folder.quarantine / "torn.jsonl.gz").write_bytes(b"x")
    result = diagnose(folder.path)
    assert [file.path for file in result.files] == [folder.recording.name]
    assert (result.score, result.passed) == (100.0, True)


def test_the_score_follows_its_formula(tmp_path: Path) -> None:
    """Two files with ten seconds between them, and a fragment that is torn: each part of the score is what the formula says."""
    written(tmp_path / "a.jsonl.gz", trades(1, 201, 0))
    written(tmp_path / "b.jsonl.gz", trades(202, 101, 30))
    torn = packed(trades(303, 41, 40.1), 20)
    (tmp_path / "c.jsonl.gz.part").write_bytes(torn[:-9])
    result = diagnose(tmp_path)
    (series,) = result.series
    assert series.between == [(START_NS + 20 * 10**9, START_NS + 30 * 10**9)]
    assert [series.span_s, series.continuous_s, series.longest_s] == pytest.approx([44.0, 34.0, 20.0], abs=0.2)
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
    """A gap inside a file is time that is not covered."""
    lines = trades(1, 301, 0)
    written(tmp_path / "a.jsonl.gz", lines[:100] + lines[250:])
    result = diagnose(tmp_path)
    assert result.series[0].between == [(START_NS + 9_900_000_000, START_NS + 25_000_000_000)]
    assert result.parts["completeness"] == 0.0
    assert not result.passed


def test_fragments_every_minute_fail_the_gate(tmp_path: Path) -> None:
    """Many short files with holes between them are worth little, though each of them is whole."""
    for number in range(10):
        written(tmp_path / f"{number}.jsonl.gz", trades(number * 1000 + 1, 100, number * 60))
    result = diagnose(tmp_path)
    assert len(result.series[0].between) == 9
    assert (result.parts["wholeness"], result.passed) == (1.0, False)


def test_symbols_are_series_of_their_own(tmp_path: Path) -> None:
    """A hole in one symbol's files is not covered by another's."""
    written(tmp_path / "a.jsonl.gz", trades(1, 50, 0))
    written(tmp_path / "b.jsonl.gz", trades(51, 50, 60))
    written(tmp_path / "c.jsonl.gz", [line.replace(b"btcusdt", b"ethusdt") for line in trades(1, 650, 0)])
    result = diagnose(tmp_path)
    assert {series.symbols: len(series.between) for series in result.series} == {("BTCUSDT",): 1, ("ETHUSDT",): 0}


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
def test_stretches_join_where_they_meet(spans: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    """Overlapping and touching stretches are one."""
    assert joined(spans, 0) == expected


@pytest.mark.parametrize("content", [None, b""])
def test_nothing_to_look_at_is_told(tmp_path: Path, content: bytes | None) -> None:
    """No folder and a folder without captures are errors; an empty file is a capture without worth."""
    if content is None:
        with pytest.raises(ConfigError, match="is no folder"):
            diagnose(tmp_path / "none")
        with pytest.raises(ConfigError, match="holds no capture"):
            diagnose(tmp_path)
        return
    (tmp_path / "x.jsonl.gz.part").write_bytes(content)
    assert diagnose(tmp_path).score == 0.0
