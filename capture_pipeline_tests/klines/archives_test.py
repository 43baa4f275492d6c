"""Selection of archive files, and files that were lost, rejected or downloaded in part."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from capture_pipeline.binance.archive.client import ArchiveClient
from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import DAY_US, Month
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError
from capture_pipeline.klines.backfill import Outcome, backfill
from capture_pipeline.klines.ingest.archives import fetch_archives, recheck_partition
from capture_pipeline.klines.pending_work import find_closable, find_due_for_recheck
from capture_pipeline.klines.quality.row_gates import check_bars
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest
from capture_pipeline.lake.paths import Partition
from capture_pipeline_tests.support.deployment import (
    SHORT_READ_TIMEOUT,
    SandboxDeployment,
    run_sandbox_deployment,
)

MONTHLY = "/data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-01.zip"


def january(deployment: Deployment) -> Partition:
    return deployment.partition("BTCUSDT", Month(2025, 1))


def run(sandbox: SandboxDeployment) -> Outcome:
    deployment = sandbox.reopened()
    (outcome,) = backfill(deployment, [january(deployment)], deployment.rest.server_time_us())
    return outcome


def record(deployment: Deployment, name: str) -> ArchiveRecord:
    manifest = read_model(deployment.lake.archives_manifest(january(deployment)), ArchivesManifest)
    assert manifest is not None
    return next(record for record in manifest.files if record.name == name)


def closed_with_a_lost_day(sandbox: SandboxDeployment) -> None:
    """Download daily files, then the monthly file, and delete one daily file."""
    sandbox.clock(now="2025-02-01T08:00:00Z")
    run(sandbox)
    sandbox.clock(now="2025-02-03T08:00:00Z")
    run(sandbox)
    next((sandbox.root / "raw").rglob("BTCUSDT-1h-2025-01-07.*.zip")).unlink()


def test_a_lost_daily_file_is_fetched_again_beside_the_monthly_one(sandbox: SandboxDeployment) -> None:
    """The bars are built from daily files, too."""
    closed_with_a_lost_day(sandbox)
    outcome = run(sandbox)
    assert outcome.error is None
    assert outcome.archives is not None
    assert outcome.archives.fetched == ["BTCUSDT-1h-2025-01-07.zip"]


def test_a_lost_daily_file_that_the_archive_dropped_is_no_longer_used(
    sandbox: SandboxDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The monthly file has the bars of the day, and no record refers to the lost file."""
    closed_with_a_lost_day(sandbox)
    url = ArchiveClient.url
    monkeypatch.setattr(
        ArchiveClient,
        "url",
        lambda client, file: url(client, file).replace("2025-01-07.zip", "2031-01-07.zip"),
    )
    outcome = run(sandbox)
    assert outcome.error is None
    deployment = sandbox.reopened()
    lost = record(deployment, "BTCUSDT-1h-2025-01-07.zip")
    assert (lost.trust, lost.usable) == (Trust.NOT_PUBLISHED, False)
    results = check_bars(deployment, [january(deployment)], deployment.now_us())
    assert [result.spec.name for result in results if not result.passed] == []


@pytest.mark.parametrize("fault", ["checksum_wrong", "checksum_missing", "zip_truncated"])
def test_a_bad_monthly_file_is_fetched_again_once_it_is_published_anew(
    fault: str, sandbox: SandboxDeployment
) -> None:
    """After a change of the published checksum, the month needs its monthly file again."""
    sandbox.clock(now="2025-02-03T10:00:00Z")
    sandbox.faults({"match": {"path": MONTHLY}, "fault": fault, "times": "always"})
    assert run(sandbox).bars.by_source == {"daily": 744}  # type: ignore[union-attr]
    deployment = sandbox.reopened()
    # A cache may have served a zip that does not match its checksum, so it is downloaded again in any case.
    again = [january(deployment)] if fault == "checksum_wrong" else []
    assert len(recheck_partition(deployment, january(deployment), deployment.now_us())) == len(again)
    assert find_closable(deployment, deployment.now_us()).partitions == again
    sandbox.faults()
    sandbox.clock(now="2025-02-12T10:00:00Z")
    assert find_due_for_recheck(deployment, deployment.now_us(), 10).partitions == [january(deployment)]
    (found,) = recheck_partition(deployment, january(deployment), deployment.now_us())
    assert (found.name, found.trust, found.usable) == (Path(MONTHLY).name, Trust.REPUBLISHED, False)
    # A file without a checksum was never in the quarantine. A file in the quarantine is reported until one of
    # its versions is usable.
    assert record(deployment, Path(MONTHLY).name).quarantined is (fault != "checksum_missing")
    assert find_closable(deployment, deployment.now_us()).partitions == [january(deployment)]
    outcome = run(sandbox)
    assert outcome.error is None
    assert record(deployment, Path(MONTHLY).name).trust is Trust.OK
    assert outcome.archives is not None
    assert outcome.archives.quarantined == []
    assert find_closable(deployment, deployment.now_us()).partitions == []


def _behind_a_cache(sandbox: SandboxDeployment, *more: dict[str, Any]) -> ArchiveRecord:
    """Return the record of a month for which the cache serves the old zip and the new checksum."""
    sandbox.clock(now="2025-02-03T10:00:00Z")
    sandbox.republish(MONTHLY.lstrip("/"))
    sandbox.faults({"match": {"path": MONTHLY}, "fault": "stale_zip"}, *more)
    assert run(sandbox).error is None
    return record(sandbox.reopened(), Path(MONTHLY).name)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[SandboxDeployment]:
    """Run an exchange for one test, because a second version of a file cannot be undone."""
    with run_sandbox_deployment(tmp_path / "own") as sandbox:
        yield sandbox


def test_old_zip_of_a_cache_is_replaced_by_that_of_the_bucket(own: SandboxDeployment) -> None:
    """The zip of the bucket matches the checksum."""
    found = _behind_a_cache(own)
    assert own.injected() == 2
    assert (found.trust, found.usable, "from the bucket" in (found.detail or "")) == (Trust.OK, True, True)


def test_old_zip_of_a_cache_is_fetched_again_at_the_next_recheck(own: SandboxDeployment) -> None:
    """Without the bucket, the zip is in the quarantine.

    The month needs its file again although the checksum is the same.
    """
    refused = {"match": {"path": "/data.binance.vision/data/*"}, "fault": "status_403", "times": "always"}
    assert _behind_a_cache(own, refused).trust is Trust.MISMATCH
    deployment = own.reopened()
    assert find_closable(deployment, deployment.now_us()).partitions == []
    (found,) = recheck_partition(deployment, january(deployment), deployment.now_us())
    assert (found.trust, "did not match" in (found.detail or "")) == (Trust.REPUBLISHED, True)
    assert find_closable(deployment, deployment.now_us()).partitions == [january(deployment)]
    own.faults()
    assert run(own).error is None
    assert record(deployment, Path(MONTHLY).name).trust is Trust.OK


def test_a_partition_whose_only_file_is_bad_is_due_for_a_recheck(sandbox: SandboxDeployment) -> None:
    """The partition has no bars from a file, and its checksum is still read again."""
    sandbox.faults({"match": {"path": "*BTCUSDT-1h-2025-01*"}, "fault": "checksum_wrong", "times": "always"})
    run(sandbox)
    deployment = sandbox.reopened()
    later_us = deployment.now_us() + 8 * DAY_US
    assert find_due_for_recheck(deployment, later_us, 10).partitions == [january(deployment)]


def test_each_verified_file_is_recorded_at_once(
    sandbox: SandboxDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed program loses only running downloads."""
    sandbox.clock(now="2025-02-01T08:00:00Z")
    deployment = sandbox.reopened()
    seen: list[int] = []
    download = ArchiveClient.download

    def counted(*arguments: Any) -> bool:
        manifest = read_model(deployment.lake.archives_manifest(january(deployment)), ArchivesManifest)
        seen.append(len(manifest.usable()) if manifest else 0)
        return download(*arguments)

    monkeypatch.setattr(ArchiveClient, "download", counted)
    fetch_archives(deployment, january(deployment), deployment.now_us())
    assert max(seen) >= 31 - deployment.settings.http.parallel_downloads


def test_daily_files_are_found_although_the_first_and_the_last_day_have_none(tmp_path: Path) -> None:
    """A symbol was listed within the month, and yesterday's file is not published yet."""
    config = {"symbols": [{"symbol": "NEWUSDT", "listed": "2025-02-05"}], "now": "2025-02-20T03:00:00Z"}
    with run_sandbox_deployment(tmp_path, config, CAPTURE_SYMBOLS="NEWUSDT") as sandbox:
        deployment = sandbox.deployment
        result = fetch_archives(
            deployment, deployment.partition("NEWUSDT", Month(2025, 2)), deployment.now_us()
        )
    assert sorted(name[-6:-4] for name in result.fetched) == sorted(f"{day:02}" for day in range(5, 19))


def test_a_month_without_files_costs_few_requests(sandbox: SandboxDeployment) -> None:
    """Zip and checksum of the month, and one listing of its days."""
    deployment = sandbox.deployment
    sandbox.forget_requests()
    fetch_archives(
        deployment, deployment.partition("NOSUCHUSDT", Month(2025, 1)), deployment.rest.server_time_us()
    )
    paths = [entry["path"] for entry in sandbox.requests() if not entry["path"].startswith("/api/")]
    month = "/data/spot/monthly/klines/NOSUCHUSDT/1h/NOSUCHUSDT-1h-2025-01.zip"
    assert sorted(paths) == ["/data.binance.vision/", month, f"{month}.CHECKSUM"]


@pytest.mark.parametrize(
    "rule",
    [{"fault": "timeout", "stall_s": 60}, {"fault": "slow_body", "bytes_per_s": 300}],
    ids=["hangs", "crawls"],
)
def test_a_stopped_download_ends_with_the_try_under_way(
    rule: dict[str, Any], sandbox: SandboxDeployment
) -> None:
    """The download hangs or is slow; no further attempt is made."""
    sandbox.faults({"match": {"path": MONTHLY}, "times": "always", **rule})
    deployment = sandbox.reopened(CAPTURE_HTTP_ATTEMPTS="20", **SHORT_READ_TIMEOUT)
    cancel, errors = threading.Event(), list[CaptureError]()

    def work() -> None:
        try:
            fetch_archives(deployment, january(deployment), deployment.rest.server_time_us(), cancel=cancel)
        except CaptureError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 10
    while not sandbox.injected():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    cancel.set()
    thread.join(2)
    assert not thread.is_alive()
    assert len(errors) == 1
