"""Altered raw files: the next run of their partition moves them away and downloads them again."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture_pipeline.binance.periods import Month
from capture_pipeline.klines.backfill import Outcome, backfill
from capture_pipeline.klines.ingest.archives import ArchivesResult, fetch_partitions
from capture_pipeline.klines.quality.row_gates import check_bars
from capture_pipeline.lake.paths import Partition
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment

MONTHLY = "data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-01.zip"


def flip(path: Path) -> bytes:
    """Change one bit in the middle of a file and return the new bytes."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return bytes(content)


def run(sandbox: SandboxDeployment, month: Month) -> Outcome:
    deployment = sandbox.reopened()
    (outcome,) = backfill(
        deployment, [deployment.partition("BTCUSDT", month)], deployment.rest.server_time_us()
    )
    return outcome


def list_failed_gates(sandbox: SandboxDeployment, part: Partition) -> list[str]:
    return [
        result.reason
        for result in check_bars(sandbox.deployment, [part], sandbox.deployment.now_us())
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
    month: Month, pattern: str, sandbox: SandboxDeployment
) -> None:
    """The check names the file.

    After one more run every check passes, and the altered bytes are in the quarantine with the reason.
    """
    assert run(sandbox, month).error is None
    part = sandbox.deployment.partition("BTCUSDT", month)
    raw = next(sandbox.deployment.lake.raw(part).glob(f"**/{pattern}"))
    altered = flip(raw)
    (summary,) = list_failed_gates(sandbox, part)
    assert sandbox.deployment.lake.relative(raw) in summary
    assert run(sandbox, month).error is None
    assert list_failed_gates(sandbox, part) == []
    (aside,) = sandbox.deployment.lake.quarantine(part).glob("*.altered-*" + raw.suffix)
    assert aside.read_bytes() == altered
    assert "was altered on the disk" in aside.with_suffix(".reason.txt").read_text()


def test_an_altered_earlier_version_fails_no_check_for_ever(tmp_path: Path) -> None:
    """An earlier version cannot be downloaded again.

    It is moved to the quarantine, and its record is updated.
    """
    with run_sandbox_deployment(tmp_path / "own") as own:
        assert run(own, Month(2025, 1)).error is None
        part = own.deployment.partition("BTCUSDT", Month(2025, 1))
        (first,) = own.deployment.lake.raw(part).rglob("*.zip")
        own.republish(MONTHLY)
        assert run(own, Month(2025, 1)).archives.fetched == []  # type: ignore[union-attr]
        assert run_again(own, part) == [Path(MONTHLY).name]
        flip(first)
        assert len(list_failed_gates(own, part)) == 1
        assert run(own, Month(2025, 1)).error is None
        assert list_failed_gates(own, part) == []
        assert "altered or removed" in own.deployment.lake.archives_manifest(part).read_text()


def run_again(sandbox: SandboxDeployment, part: Partition) -> list[str]:
    """Download with new checksums and return the names of the downloaded files."""
    deployment = sandbox.reopened()
    ((_, result),) = fetch_partitions(deployment, [part], deployment.now_us(), check_revisions=True)
    assert isinstance(result, ArchivesResult)
    return result.fetched
