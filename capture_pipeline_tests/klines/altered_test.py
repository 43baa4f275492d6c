"""Altered raw files: the next run of their partition moves them away and downloads them again."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture_pipeline.binance.periods import Month
from capture_pipeline.klines.backfill import Outcome, backfill
from capture_pipeline.klines.ingest.archives import ArchivesResult, fetch_partitions
from capture_pipeline.klines.quality.row_gates import check_bars
from capture_pipeline.lake.paths import Partition
from capture_pipeline_tests.deployment import Deployment, deployed

MONTHLY = "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-01.zip"


def flip(path: Path) -> bytes:
    """Change one bit in the middle of a file and return the new bytes."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return bytes(content)


def run(deployment: Deployment, month: Month) -> Outcome:
    workspace = deployment.reopened()
    (outcome,) = backfill(workspace, [workspace.partition("BTCUSDT", month)], workspace.rest.server_time_us())
    return outcome


def list_failed_gates(deployment: Deployment, part: Partition) -> list[str]:
    return [
        result.reason
        for result in check_bars(deployment.workspace, [part], deployment.workspace.now_us())
        if not result.passed
    ]


@pytest.mark.parametrize(
    ("month", "pattern"),
    [
        (Month(2025, 1), "BTCUSDT-1h-2025-01.*.zip"),
        (Month(2025, 2), "BTCUSDT-1h-2025-02-07.*.zip"),
        (Month(2025, 2), "rest/*.json"),
    ],
    ids=["monthly", "daily", "rest"],
)
def test_an_altered_file_is_set_aside_and_fetched_again(
    month: Month, pattern: str, deployment: Deployment
) -> None:
    """The check names the file.

    After one more run every check passes, and the altered bytes are in the quarantine with the reason.
    """
    assert run(deployment, month).error is None
    part = deployment.workspace.partition("BTCUSDT", month)
    raw = next(deployment.workspace.lake.raw(part).glob(f"**/{pattern}"))
    altered = flip(raw)
    (summary,) = list_failed_gates(deployment, part)
    assert deployment.workspace.lake.relative(raw) in summary
    assert run(deployment, month).error is None
    assert list_failed_gates(deployment, part) == []
    (aside,) = deployment.workspace.lake.quarantine(part).glob("*.altered-*" + raw.suffix)
    assert aside.read_bytes() == altered
    assert "was altered on the disk" in aside.with_suffix(".reason.txt").read_text()


def test_an_altered_earlier_version_fails_no_check_for_ever(tmp_path: Path) -> None:
    """An earlier version cannot be downloaded again.

    It is moved to the quarantine, and its record is updated.
    """
    with deployed(tmp_path / "own") as own:
        assert run(own, Month(2025, 1)).error is None
        part = own.workspace.partition("BTCUSDT", Month(2025, 1))
        (first,) = own.workspace.lake.raw(part).rglob("*.zip")
        own.republish(MONTHLY)
        assert run(own, Month(2025, 1)).archives.fetched == []  # type: ignore[union-attr]
        assert run_again(own, part) == [Path(MONTHLY).name]
        flip(first)
        assert len(list_failed_gates(own, part)) == 1
        assert run(own, Month(2025, 1)).error is None
        assert list_failed_gates(own, part) == []
        assert "altered or removed" in own.workspace.lake.archives_manifest(part).read_text()


def run_again(deployment: Deployment, part: Partition) -> list[str]:
    """Download with new checksums and return the names of the downloaded files."""
    workspace = deployment.reopened()
    (result,) = fetch_partitions(workspace, [part], workspace.now_us(), check_revisions=True)
    assert isinstance(result, ArchivesResult)
    return result.fetched
