"""Unusable archive files: report as text, JSON, state and metadata, and exit code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from capture_pipeline.binance.periods import Month
from capture_pipeline.cli.main import main
from capture_pipeline.defs.klines import result_metadata
from capture_pipeline.klines.ingest.archives import ArchivesResult
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import ArchivesManifest
from capture_pipeline_tests.support.command import read_json
from capture_pipeline_tests.support.deployment import SandboxDeployment

NAME = "BTCUSDT-1h-2024-12.zip"
FORMS = {
    "checksum_bom": "begins with a byte order mark",
    "checksum_digest_alone": "contains a digest without a file name",
    "checksum_missing": "no checksum is published",
}
Backfill = Callable[..., Result]


@pytest.fixture
def fresh(filled: SandboxDeployment, tmp_path: Path) -> SandboxDeployment:
    """Create an empty lake at the exchange of the folder."""
    return SandboxDeployment(
        filled.url, tmp_path / "fresh", CAPTURE_HISTORY_START="2024-12-01", CAPTURE_HISTORY_END="2024-12-31"
    )


@pytest.fixture
def backfill(fresh: SandboxDeployment) -> Backfill:
    """Backfill December from archive files only."""

    def call(*arguments: str, **environment: str) -> Result:
        arguments = ("klines", "backfill", "--archives-only", *arguments)
        return CliRunner().invoke(
            main, list(arguments), env=fresh.environment(**environment), catch_exceptions=False
        )

    return call


def spoil(fresh: SandboxDeployment, fault: str) -> None:
    fresh.faults({"match": {"path": f"*/{NAME}"}, "fault": fault})


@pytest.mark.parametrize("fault", FORMS)
def test_a_file_whose_checksum_cannot_be_read_is_reported(
    fault: str, fresh: SandboxDeployment, backfill: Backfill
) -> None:
    """Daily files replace the monthly file.

    The output contains the file, its form, its digest and the remedy, and the exit code is 1.
    """
    spoil(fresh, fault)
    result = backfill("--json")
    (row,) = read_json(result)["partitions"]
    assert (result.exit_code, row["state"], row["daily"], row["missing"]) == (1, "1 unverified", 744, 0)
    (line,) = row["unverified"]
    raw = next((fresh.root / "raw").rglob("BTCUSDT-1h-2024-12.*.zip"))
    digest = hashlib.sha256(raw.read_bytes()).hexdigest()
    assert line.startswith(f"{NAME}: ")
    assert all(
        part in line
        for part in (
            FORMS[fault],
            "not used",
            digest,
            "archive.pinned_checksums",
            "archive.accept_without_checksum",
        )
    )
    again = backfill()
    assert again.exit_code == 1
    assert "1 unverified" in again.stdout
    assert f"unverified {line}" in again.stderr


@pytest.mark.parametrize(
    "setting", ["CAPTURE_ARCHIVE_ACCEPT_WITHOUT_CHECKSUM", "CAPTURE_ARCHIVE_PINNED_CHECKSUMS"]
)
def test_the_remedy_that_is_named_settles_it(
    setting: str, fresh: SandboxDeployment, backfill: Backfill
) -> None:
    """After the remedy the file is used, and the exit code is 0."""
    spoil(fresh, "checksum_bom")
    backfill()
    digest = hashlib.sha256(
        next((fresh.root / "raw").rglob("BTCUSDT-1h-2024-12.*.zip")).read_bytes()
    ).hexdigest()
    result = backfill("--json", **{setting: f"{NAME}={digest}" if setting.endswith("CHECKSUMS") else "true"})
    (row,) = read_json(result)["partitions"]
    assert (result.exit_code, row["state"], row["monthly"], row["unverified"]) == (0, "ok", 744, [])


def test_its_hole_is_ours_where_nothing_stands_in(fresh: SandboxDeployment, backfill: Backfill) -> None:
    """If daily files are bad too, the ledger gives the unverified file as the cause."""
    fresh.faults({"match": {"path": "*/BTCUSDT-1h-2024-12*"}, "fault": "checksum_path"})
    result = backfill("--json")
    (row,) = read_json(result)["partitions"]
    assert (result.exit_code, row["state"], row["unexplained"]) == (1, "32 unverified", 744)
    ledger = CliRunner().invoke(
        main, ["klines", "gaps", "--json"], env=fresh.environment(), catch_exceptions=False
    )
    assert {(hole["cause"], "unverified" in hole["detail"]) for hole in read_json(ledger)} == {("ours", True)}


def test_a_quarantined_file_is_reported_and_exits_1_where_it_leaves_a_hole(
    fresh: SandboxDeployment, backfill: Backfill
) -> None:
    """If daily files replace the whole file, no action is necessary."""
    spoil(fresh, "checksum_wrong")
    replaced = backfill()
    assert (replaced.exit_code, f"quarantined {NAME}: SHA-256" in replaced.stderr) == (0, True)
    fresh.faults({"match": {"path": "*/BTCUSDT-1h-2024-12*"}, "fault": "checksum_wrong"})
    for daily in (fresh.root / "raw").rglob("BTCUSDT-1h-2024-12-*.zip"):
        daily.unlink()
    lacking = backfill("--json")
    (row,) = read_json(lacking)["partitions"]
    assert (lacking.exit_code, row["state"], row["unexplained"]) == (1, "32 quarantined", 744)


def test_dagster_counts_it(fresh: SandboxDeployment, backfill: Backfill) -> None:
    """The metadata of `kline_archives` contain the count, the trust and the reason."""
    spoil(fresh, "checksum_two_lines")
    backfill()
    part = fresh.deployment.partition("BTCUSDT", Month(2024, 12))
    manifest = read_model(fresh.deployment.lake.archives_manifest(part), ArchivesManifest)
    assert manifest is not None
    metadata = result_metadata.archives(ArchivesResult(part, manifest, []))["kline_archives"]
    assert (metadata["unverified"], metadata["quarantined"], metadata["trust"]["checksum_missing"]) == (
        1,
        0,
        1,
    )
