"""Short runs of `make killtest`, and tests of its comparisons."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from capture_pipeline.recorder.ordering.gap_tracker import GapBounds, MessageTime, gap_between
from capture_pipeline.sessions.models import Cause, Gap
from capture_pipeline_tests.soak.kill_backfill import _describe_damaged, kill_backfill
from capture_pipeline_tests.soak.kill_recorder import kill_recorder
from capture_pipeline_tests.soak.observer import compare

TRADES, DEPTH = "btcusdt@trade", "btcusdt@depth@100ms"
MESSAGES = [
    *(
        b'{"stream":"%b","data":{"e":"trade","t":%d,"p":"1.5"}}' % (TRADES.encode(), number)
        for number in range(5, 15)
    ),
    *(
        b'{"stream":"%b","data":{"U":%d,"u":%d,"b":[]}}' % (DEPTH.encode(), first, first + 2)
        for first in range(1, 31, 3)
    ),
]
SNAPSHOT = b'{"stream":"btcusdt@depthSnapshot","data":{"lastUpdateId":4}}'


@pytest.mark.slow
def test_killed_recorder_accounts_for_every_message(tmp_path: Path) -> None:
    """After three kills, each sent message is recorded byte for byte or in the ledger."""
    result = kill_recorder(tmp_path, kills=3, seed=9, longest_s=3.0)
    assert not result.errors
    assert result.comparison.observed == result.comparison.recorded + result.comparison.listed
    assert result.comparison.recorded > 100


@pytest.mark.slow
def test_killed_backfill_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    """After three kills, no damaged file was visible and no verified file was downloaded again."""
    result = kill_backfill(tmp_path, kills=3, seed=9)
    assert not result.errors
    assert result.kills == 3


def write_recording(folder: Path, messages: list[bytes]) -> Path:
    path = folder / "x.jsonl.gz"
    path.write_bytes(
        gzip.compress(
            b"".join(b'{"capture_ns":%d,%b\n' % (at, message[1:]) for at, message in enumerate(messages, 1))
        )
    )
    return path


def gap(stream: str, last_good: int, first_good: int) -> Gap:
    return gap_between(
        GapBounds(stream, last_good, first_good, MessageTime(1), MessageTime(2)), Cause.SILENCE, ""
    )


LOST = [gap(TRADES, 6, 9), gap(DEPTH, 3, 10)]
LEFT = [*MESSAGES[:2], *MESSAGES[4:11], *MESSAGES[13:]]


@pytest.mark.parametrize(
    ("messages", "gaps", "expected"),
    [
        ([*MESSAGES, SNAPSHOT], [], []),
        (LEFT, LOST, []),
        (LEFT, LOST[:1], [f"('{DEPTH}', 4, 9) is missing and not in the ledger"]),
        (
            LEFT,
            [gap(TRADES, 6, 8), LOST[1]],
            [f"('{TRADES}', 7, 8) is missing", f"('{TRADES}', 7, 7) is in the ledger"],
        ),
        (MESSAGES, LOST[:1], [f"('{TRADES}', 7, 8) is in the ledger and not missing"]),
        ([*MESSAGES, MESSAGES[3]], [], [f"('{TRADES}', 8, 8) is recorded twice"]),
        (
            [*MESSAGES, MESSAGES[0].replace(b'"t":5', b'"t":99')],
            [],
            [f"('{TRADES}', 99, 99) is recorded and was never sent"],
        ),
        (
            [MESSAGES[0].replace(b"1.5", b"1.50"), *MESSAGES[1:]],
            [],
            [f"('{TRADES}', 5, 5) is recorded with other bytes"],
        ),
        (MESSAGES[1:], [], [f"('{TRADES}', 5, 5) is missing and not in the ledger"]),
    ],
)
def test_comparison_names_each_message_that_is_not_accounted_for(
    messages: list[bytes], gaps: list[Gap], expected: list[str], tmp_path: Path
) -> None:
    """The comparison reports exactly the expected errors."""
    errors = compare(MESSAGES, write_recording(tmp_path, messages), gaps).errors
    assert len(errors) == len(expected), errors
    assert all(any(each.startswith(one) for each in errors) for one in expected), errors


def test_partial_files_are_found_unless_their_names_are_hidden(tmp_path: Path) -> None:
    """A damaged table, manifest and raw file are reported; files with a dot are ignored."""
    raw = tmp_path / "raw" / "spot"
    (raw / "archives").mkdir(parents=True)
    (tmp_path / "lake").mkdir()
    for folder, name in (
        (tmp_path / "lake", "bars.parquet"),
        (raw, "archives.json"),
        (raw / "archives", "BTCUSDT-1h.0123456789ab.zip"),
    ):
        (folder / f".{name}.7-0.tmp").write_bytes(b"PAR1")
        assert list(_describe_damaged(tmp_path)) == []
        (folder / name).write_bytes(b"{PAR1")
        assert [text.split()[0] for text in _describe_damaged(tmp_path)] == [name]
        (folder / name).unlink()
    (raw / "archives.json").write_text(json.dumps({"files": []}))
    assert list(_describe_damaged(tmp_path)) == []
