"""Lost or deleted files of the lake, and files that cannot be written."""

from __future__ import annotations

import multiprocessing
import resource
import signal

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import Month
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import StorageError
from capture_pipeline.klines.backfill import Outcome, backfill
from capture_pipeline.klines.bars import build_bars
from capture_pipeline.klines.quality.row_gates import check_bars
from capture_pipeline_tests.support.deployment import SandboxDeployment

SPAWN = multiprocessing.get_context("spawn")


def january(deployment: Deployment) -> Outcome:
    """Backfill January."""
    (outcome,) = backfill(
        deployment, [deployment.partition("BTCUSDT", Month(2025, 1))], deployment.rest.server_time_us()
    )
    return outcome


def _build_on_a_full_disk(
    root: str, environment: dict[str, str], told: multiprocessing.SimpleQueue[str]
) -> None:
    """Build the bars again with a limit on the size of files."""
    from pathlib import Path  # noqa: PLC0415 - in the spawned process

    sandbox = SandboxDeployment(environment["CAPTURE_SANDBOX_URL"], Path(root))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    try:
        build_bars(sandbox.deployment, sandbox.deployment.partition("BTCUSDT", Month(2025, 1)))
    except StorageError as error:
        told.put(str(error))
    else:
        told.put("no error")


def test_a_disk_that_takes_no_more_leaves_the_table_as_it_was(sandbox: SandboxDeployment) -> None:
    """The error is transient and one line. The published bars are unchanged, and no other file remains."""
    january(sandbox.deployment)
    bars = sandbox.deployment.lake.bars(sandbox.deployment.partition("BTCUSDT", Month(2025, 1)))
    before = bars.read_bytes()
    told: multiprocessing.SimpleQueue[str] = SPAWN.SimpleQueue()
    process = SPAWN.Process(
        target=_build_on_a_full_disk, args=(str(sandbox.root), sandbox.environment(), told)
    )
    process.start()
    process.join(60)
    said = told.get()
    assert str(bars) in said
    assert "cannot be written" in said
    assert bars.read_bytes() == before
    assert [path.name for path in bars.parent.iterdir()] == [bars.name]


def test_a_quarantined_file_may_be_cleaned_away(sandbox: SandboxDeployment) -> None:
    """The checksums of raw files do not include the quarantine."""
    sandbox.faults({"match": {"path": "*/monthly/*BTCUSDT-1h-2025-01.zip"}, "fault": "zip_truncated"})
    outcome = january(sandbox.deployment)
    assert outcome.archives is not None
    (bad,) = outcome.archives.quarantined
    assert bad.trust is Trust.MALFORMED
    sandbox.deployment.lake.resolve(bad.path or "").unlink()
    results = check_bars(sandbox.deployment, [outcome.partition], sandbox.deployment.now_us())
    assert [result.spec.name for result in results if not result.passed] == []


def test_a_lost_rest_answer_is_asked_for_again(sandbox: SandboxDeployment) -> None:
    """The same holds for a lost zip. The bars are the same as before."""
    deployment = sandbox.reopened(CAPTURE_HISTORY_START="2025-02-01")
    (first,) = backfill(
        deployment, [deployment.partition("BTCUSDT", Month(2025, 2))], deployment.rest.server_time_us()
    )
    assert first.topups is not None
    assert first.bars is not None
    deployment.lake.resolve(first.topups.manifest.pages[0].path).unlink()
    next(deployment.lake.raw(first.partition).rglob("*.zip")).unlink()
    (second,) = backfill(sandbox.reopened(), [first.partition], deployment.rest.server_time_us())
    assert second.error is None
    assert second.topups is not None
    assert second.bars is not None
    assert second.topups.pages == 1
    assert second.bars.sha256 == first.bars.sha256
