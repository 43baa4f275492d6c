"""Gaps in the diffs of a session by three definitions, and recoveries, from generated recordings."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from capture_pipeline.checks.feasibility import GAPS
from capture_pipeline.checks.model import Verdict
from capture_pipeline.errors import LakeError
from capture_pipeline.feasibility.sequence_gaps.measurement import FeedFigures, IdGap, measure_feed
from capture_pipeline.feasibility.sequence_gaps.page import (
    TITLE,
    build_evidence,
    build_reading,
    build_sections,
)
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.reporting.charts import markdown, page
from capture_pipeline_tests.support.sessions.eth import SESSION, import_eth
from capture_pipeline_tests.support.sessions.lines import START_NS, depth, snapshot, trade

NAME = "20250803T123000Z_btcusdt"
SECOND = 10**9
LEVEL = '["10.0","1.0"],["9.0","2.0"]'


def measure_recording(folder: Path, lines: list[bytes], *, block_bytes: int = 1 << 16) -> FeedFigures:
    path = folder / "made.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(lines)))
    convert(path, NAME, folder / "lake", block_bytes=block_bytes)
    return measure_feed(GoldenTables(folder / "lake", NAME), "BTCUSDT")


def generate_diffs(count: int, missing: frozenset[int] = frozenset(), ids: int = 4) -> list[bytes]:
    """Generate one diff a second with a number of ids each, without some of them."""
    wanted = [at for at in range(count) if at not in missing]
    return [
        depth(at * ids + 1, at * ids + ids, START_NS + at * SECOND, LEVEL if at % 3 else "") for at in wanted
    ]


def test_a_whole_feed_has_nothing_to_tell(tmp_path: Path) -> None:
    """No id is missing. The first fitting snapshot makes the book valid, and later ones change nothing."""
    lines = generate_diffs(100)
    lines.insert(3, snapshot(10, START_NS + 2 * SECOND + 1))
    lines.insert(60, snapshot(230, START_NS + 58 * SECOND + 1))
    found = measure_recording(tmp_path, lines)
    assert (found.diffs, found.ids, found.lost_ids, found.gaps, found.snapshots) == (100, 400, 0, 0, 2)
    assert (found.lost_ids_percent, found.lost_events_percent, found.discontinuities_percent) == (0, 0, 0)
    assert found.first_valid_ms == 2000.000001
    assert (sum(found.messages_by_period), sum(found.lost_by_period)) == (100, 0)
    assert build_reading([found]).measured == 0


def test_gaps_by_each_definition_and_in_time(tmp_path: Path) -> None:
    """12 of 400 ids, 3 of 100 messages and 2 gaps in 97 messages, each in the minute of its end."""
    found = measure_recording(tmp_path, generate_diffs(100, missing=frozenset({30, 31, 80})))
    assert (found.diffs, found.ids, found.lost_ids, found.gaps) == (97, 400, 12, 2)
    assert found.lost_ids_percent == 3
    assert found.lost_events_percent == pytest.approx(3)
    assert found.discontinuities_percent == pytest.approx(200 / 97)
    assert (found.period_s, found.lost_by_period) == (60, [8, 4])
    assert [(gap.last_good_id, gap.first_good_id, gap.lost) for gap in found.listed] == [
        (120, 129, 8),
        (320, 325, 4),
    ]
    assert [gap.capture_ns for gap in found.listed] == [START_NS + 32 * SECOND, START_NS + 81 * SECOND]


@pytest.mark.parametrize("block_bytes", [1 << 10, 1 << 16])
def test_recovery_takes_until_a_snapshot_is_bridged(tmp_path: Path, block_bytes: int) -> None:
    """A snapshot that is too old has no effect.

    One that is ahead counts after a diff reaches it. A gap without a later snapshot stays open.
    """
    lines = generate_diffs(100, missing=frozenset({10, 40, 70}))
    stamps = {at: START_NS + at * SECOND + 500_000_000 for at in range(100)}
    found = measure_recording(
        tmp_path,
        sorted(
            [
                *lines,
                snapshot(4, stamps[1]),
                snapshot(30, stamps[12]),  # before the first gap: too old
                snapshot(60, stamps[15]),
                snapshot(4 * 52, stamps[50]),  # ahead: the diff of second 52 is the first behind it
            ],
            key=lambda line: int(line[len(b'{"capture_ns":') :].split(b",")[0]),
        ),
        block_bytes=block_bytes,
    )
    assert [gap.recovered_ms for gap in found.listed] == [4500, 11_000, None]
    assert (found.recovered, found.recovery_ms, found.longest_recovery_ms) == (2, 11_000, 11_000)
    assert (found.gaps, found.first_valid_ms) == (3, 1500)
    assert "After 1 of 3 gaps no snapshot made the book valid" in markdown(build_sections([found])[0])


def test_futures_say_what_they_follow(tmp_path: Path) -> None:
    """Ids between two futures diffs belong to other symbols, so only `pu` shows a loss."""

    def future(at: int, first: int, last: int, previous: int) -> bytes:
        return depth(first, last, START_NS + at * SECOND, LEVEL).replace(b'"b":', b'"pu":%d,"b":' % previous)

    found = measure_recording(
        tmp_path, [future(0, 10, 15, 3), future(1, 40, 44, 15), future(2, 60, 70, 50), future(3, 90, 99, 70)]
    )
    assert (found.diffs, found.gaps, found.lost_ids) == (4, 1, 6)
    assert (found.listed[0].last_good_id, found.listed[0].first_good_id) == (44, 51)


def test_the_criterion_fails_from_a_thousandth_on(tmp_path: Path) -> None:
    """One lost id of 1,001 passes, and one of 1,000 fails."""
    for count, verdict in ((999, Verdict.PASS), (998, Verdict.FAIL)):
        folder = tmp_path / str(count)
        folder.mkdir()
        lines = [depth(1, 1, START_NS), depth(3, count + 2, START_NS + SECOND)]
        found = measure_recording(folder, lines)
        one = build_reading([found])
        assert GAPS.verdict(one.measured) is verdict
        assert one.note.startswith("lost ids against all ids; worst: ")
        assert build_evidence([found], {}).failed == ([] if verdict is Verdict.PASS else [GAPS.description])


def test_the_worst_symbol_decides(tmp_path: Path) -> None:
    """It is neither the first one nor the one with the most ids."""
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    large.mkdir()
    feeds = [
        measure_recording(large, generate_diffs(100, missing=frozenset({30}))),
        measure_recording(small, generate_diffs(10, missing=frozenset({5}))),
    ]
    for order in (feeds, feeds[::-1]):
        assert build_reading(order).measured == 10


def test_without_diffs_nothing_was_measured(tmp_path: Path) -> None:
    """A session with trades only does not pass, and a session without tables is an error."""
    found = measure_recording(tmp_path, [trade(1, START_NS), trade(2, START_NS + 1)])
    assert (found.diffs, found.first_valid_ms) == (0, None)
    assert build_reading([found]).measured is None
    assert build_evidence([found], {}).failed == [GAPS.description]
    with pytest.raises(LakeError, match="has no tables"):
        measure_feed(GoldenTables(tmp_path / "nowhere", NAME), "BTCUSDT")


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    """One file contains both plots, all three definitions and the list of gaps."""
    text = page(
        TITLE, build_sections([measure_recording(tmp_path, generate_diffs(100, missing=frozenset({30})))])
    )
    assert text.count("<svg") == 2
    assert not re.search(r'(src|href)="', text)
    assert "2025-08-03T12:30:31.000000Z" in text
    assert "Lost messages of all expected, estimated, %" in text


def test_a_real_recording_is_whole(recordings: Path, tmp_path: Path) -> None:
    """Two files have no gap, and the snapshot fits. Removed ids are found."""
    convert(import_eth(recordings, tmp_path / "x.jsonl.gz"), SESSION, tmp_path)
    found = measure_feed(GoldenTables(tmp_path, SESSION), "ETHUSDT")
    assert (found.diffs, found.lost_ids, found.snapshots, found.recovered) == (6_470, 0, 1, 0)
    assert found.first_valid_ms is not None
    assert found.first_valid_ms < 1000
    assert sum(found.messages_by_period) == found.diffs
    assert found.listed == list[IdGap]()
