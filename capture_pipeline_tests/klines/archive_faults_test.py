"""Faults of the archive: sound bars from the next source, or one clear error and nothing published."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import HOUR_US, Month
from capture_pipeline.errors import (
    AccessDeniedError,
    CaptureError,
    NetworkError,
    ServerError,
    UntrustedPeerError,
)
from capture_pipeline.klines import bars as made_bars
from capture_pipeline.klines.backfill import GateError, Outcome, backfill
from capture_pipeline.klines.ingest.archives import ArchivesResult, fetch_archives
from capture_pipeline.klines.merge import SeparatedRows
from capture_pipeline.lake.manifests import ArchiveRecord
from capture_pipeline.tables.klines.bars import VALUE_COLUMNS
from capture_pipeline.tables.klines.exclusions import EXCLUSIONS
from capture_pipeline_tests.support.deployment import SHORT_READ_TIMEOUT, SandboxDeployment

MONTHLY = "/data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2025-01.zip"
ZIP = {"match": {"path": MONTHLY}}
BOTH_HOSTS = {"match": {"path": f"*{MONTHLY}"}}
"""The archive and its bucket."""
CHECKSUM = {"match": {"path": MONTHLY + ".CHECKSUM"}}


def run(sandbox: SandboxDeployment, **environment: str) -> Outcome:
    deployment = sandbox.reopened(**environment)
    part = deployment.partition("BTCUSDT", Month(2025, 1))
    (outcome,) = backfill(deployment, [part], deployment.rest.server_time_us())
    return outcome


def find_monthly_record(outcome: Outcome) -> ArchiveRecord:
    assert outcome.archives is not None
    return next(
        record for record in outcome.archives.manifest.files if record.name == "BTCUSDT-1h-2025-01.zip"
    )


def bars(sandbox: SandboxDeployment) -> pl.DataFrame:
    deployment = sandbox.deployment
    return pl.read_parquet(
        deployment.lake.bars(deployment.partition("BTCUSDT", Month(2025, 1))), hive_partitioning=False
    )


def have_same_values(left: pl.DataFrame, right: pl.DataFrame) -> bool:
    names = ["open_time_us", *VALUE_COLUMNS]
    return left.select(names).equals(right.select(names))


BAD_CONTENT = [
    "zip_truncated",
    "zip_bit_flip",
    "zip_bomb",
    "zip_overlapping",
    "zip_two_entries",
    "zip_other_name",
    "zip_traversal",
    "csv_empty",
    "csv_missing_column",
    "csv_extra_column",
    "csv_nan",
    "csv_exponent",
]


@pytest.mark.parametrize("fault", BAD_CONTENT)
def test_a_broken_file_is_quarantined_and_the_daily_files_take_its_place(
    fault: str, sandbox: SandboxDeployment, sound_month: pl.DataFrame
) -> None:
    """The checksum of the file is correct, but its content is not. No bar is lost."""
    sandbox.faults({**ZIP, "fault": fault})
    outcome = run(sandbox, CAPTURE_HTTP_MAX_CSV_MB="4")
    assert sandbox.injected()
    assert outcome.error is None
    record = find_monthly_record(outcome)
    assert (record.trust, record.usable) == (Trust.MALFORMED, False)
    aside = sandbox.deployment.lake.resolve(record.path or "")
    assert aside.is_relative_to(sandbox.root / "quarantine")
    assert aside.with_suffix(".reason.txt").read_text().strip() == record.detail
    assert set(bars(sandbox)["source"]) == {"daily"}
    assert have_same_values(bars(sandbox), sound_month)


@pytest.mark.parametrize("fault", ["csv_header", "csv_bom", "csv_crlf", "csv_unordered", "csv_duplicates"])
def test_a_sound_file_in_another_dress_gives_the_same_bars(
    fault: str, sandbox: SandboxDeployment, sound_month: pl.DataFrame
) -> None:
    """Header, byte order mark, line ends, order and identical duplicates change nothing."""
    sandbox.faults({**ZIP, "fault": fault})
    outcome = run(sandbox)
    assert sandbox.injected()
    assert outcome.error is None
    assert find_monthly_record(outcome).trust is Trust.OK
    assert bars(sandbox).equals(sound_month)
    assert outcome.bars is not None
    assert bool(outcome.bars.duplicates) == (fault == "csv_duplicates")


def test_a_conflicting_duplicate_is_kept_beside_the_bars(sandbox: SandboxDeployment) -> None:
    """Two different rows with the same open time give one bar, and both values are in bar_conflicts."""
    sandbox.faults({**ZIP, "fault": "csv_conflicting_duplicate"})
    outcome = run(sandbox)
    assert outcome.bars is not None
    assert outcome.bars.conflicts >= 1
    deployment = sandbox.deployment
    table = pl.read_parquet(deployment.lake.conflicts(outcome.partition), hive_partitioning=False)
    assert table.height == outcome.bars.conflicts
    assert (table["kept_value"] != table["other_value"]).all()


@pytest.mark.parametrize("fault", ["csv_other_month", "csv_future"])
def test_rows_of_another_period_are_excluded(
    fault: str, sandbox: SandboxDeployment, sound_month: pl.DataFrame
) -> None:
    """The other rows of the file are used, and give the same bars."""
    sandbox.faults({**ZIP, "fault": fault})
    outcome = run(sandbox)
    assert sandbox.injected()
    assert (outcome.error, find_monthly_record(outcome).trust) == (None, Trust.OK)
    assert bars(sandbox).equals(sound_month)
    assert outcome.bars is not None
    assert set(outcome.bars.excluded) == {"outside_period"}


def test_a_file_that_changes_its_unit_gives_the_same_bars(
    sandbox: SandboxDeployment, sound_month: pl.DataFrame
) -> None:
    """The unit of each row follows from its own times."""
    sandbox.faults({**ZIP, "fault": "csv_mixed_units"})
    outcome = run(sandbox)
    assert sandbox.injected()
    assert (outcome.error, find_monthly_record(outcome).trust) == (None, Trust.OK)
    assert have_same_values(bars(sandbox), sound_month)
    assert set(bars(sandbox)["time_unit"]) == {"ms", "us"}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("csv_unaligned", ""),
        ("csv_unclosed", "early_close late_close"),
        ("csv_negative", "negative_amount taker_above_total"),
    ],
)
def test_irregular_rows_of_a_verified_file_do_not_stop_their_partition(
    fault: str, kind: str, sandbox: SandboxDeployment
) -> None:
    """The rows are classified or excluded, and the month gets its ledger."""
    sandbox.faults({**ZIP, "fault": fault})
    outcome = run(sandbox)
    assert sandbox.injected()
    assert outcome.error is None
    assert outcome.gaps is not None
    assert outcome.bars is not None
    assert set(outcome.irregular) <= set(kind.split())
    assert bool(outcome.irregular) == bool(kind)
    assert bool(outcome.bars.excluded) == (fault == "csv_unaligned")
    assert (bars(sandbox)["open_time_us"] % HOUR_US == 0).all()


def test_damage_of_our_own_fails_its_gate_and_stops_its_partition(
    sandbox: SandboxDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows off the grid that are not excluded are a bug of this project, so no ledger is computed."""
    sandbox.faults({**ZIP, "fault": "csv_unaligned"})
    monkeypatch.setattr(
        made_bars,
        "separate_rows",
        lambda parts, _step: SeparatedRows(list(parts), pl.DataFrame(schema=EXCLUSIONS.schema)),
    )
    outcome = run(sandbox)
    assert isinstance(outcome.error, GateError)
    assert "open_times_on_grid" in str(outcome.error)
    assert outcome.gaps is None
    assert not sandbox.deployment.lake.gaps(outcome.partition).exists()


@pytest.mark.parametrize(
    ("rule", "trust", "source"),
    [
        ({**CHECKSUM, "fault": "checksum_wrong"}, Trust.MISMATCH, "daily"),
        ({**CHECKSUM, "fault": "checksum_wrong", "times": 1}, Trust.OK, "monthly"),
        ({**CHECKSUM, "fault": "stale_checksum"}, Trust.MISMATCH, "daily"),
        ({**CHECKSUM, "fault": "checksum_missing"}, Trust.CHECKSUM_MISSING, "daily"),
        ({**CHECKSUM, "fault": "checksum_malformed"}, Trust.CHECKSUM_MISSING, "daily"),
        ({**CHECKSUM, "fault": "checksum_no_newline"}, Trust.OK, "monthly"),
        ({**ZIP, "fault": "body_bit_flip", "times": 1}, Trust.OK, "monthly"),
        ({**BOTH_HOSTS, "fault": "body_bit_flip", "times": "always"}, Trust.MISMATCH, "daily"),
        ({**ZIP, "fault": "body_bit_flip", "times": "always"}, Trust.OK, "monthly"),
        ({**ZIP, "fault": "html_200", "times": 1}, Trust.OK, "monthly"),
        ({**BOTH_HOSTS, "fault": "html_200", "times": "always"}, Trust.MISMATCH, "daily"),
    ],
    ids=lambda value: value["fault"] if isinstance(value, dict) else str(value),
)
def test_the_checksum_is_a_state(
    rule: dict[str, Any], trust: Trust, source: str, sandbox: SandboxDeployment, sound_month: pl.DataFrame
) -> None:
    """After a mismatch a file is downloaded again. An unverified file is replaced by the next source."""
    sandbox.faults(_zip_path(rule))
    outcome = run(sandbox)
    assert sandbox.injected()
    assert outcome.error is None
    record = find_monthly_record(outcome)
    assert record.trust is trust
    assert set(bars(sandbox)["source"]) == {source}
    assert have_same_values(bars(sandbox), sound_month)
    if trust is Trust.MISMATCH:
        assert record.path is not None
        assert record.path.startswith("quarantine/")


def test_a_pinned_digest_overrides_a_stale_checksum(sandbox: SandboxDeployment) -> None:
    """A pinned digest is used if the published checksum is known to be wrong."""
    digest = find_monthly_record(run(sandbox)).sha256_own or ""
    other = SandboxDeployment(sandbox.url, sandbox.root.with_name("other"))
    other.faults(_zip_path({**CHECKSUM, "fault": "stale_checksum"}))
    outcome = run(other, CAPTURE_ARCHIVE_PINNED_CHECKSUMS=f"BTCUSDT-1h-2025-01.zip={digest}")
    assert find_monthly_record(outcome).trust is Trust.PINNED
    assert outcome.bars is not None
    assert set(outcome.bars.by_source) == {"monthly"}


def test_a_file_without_checksum_is_used_only_where_the_settings_allow_it(sandbox: SandboxDeployment) -> None:
    """Its record says that it has no checksum."""
    sandbox.faults(_zip_path({**CHECKSUM, "fault": "checksum_missing"}))
    outcome = run(sandbox, CAPTURE_ARCHIVE_ACCEPT_WITHOUT_CHECKSUM="true")
    assert (find_monthly_record(outcome).trust, find_monthly_record(outcome).usable) == (
        Trust.CHECKSUM_MISSING,
        True,
    )
    assert set(bars(sandbox)["source"]) == {"monthly"}


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "status_500", "times": 2},
        {"fault": "status_502"},
        {"fault": "status_503"},
        {"fault": "reset", "times": 2},
        {"fault": "timeout", "stall_s": 5},
        {"fault": "truncated_body", "times": 2},
    ],
    ids=lambda rule: str(rule["fault"]),
)
def test_a_passing_failure_is_repeated(
    rule: dict[str, Any], sandbox: SandboxDeployment, sound_month: pl.DataFrame
) -> None:
    """Server errors, resets, silence and incomplete bodies only cost a retry."""
    sandbox.faults({**ZIP, **rule})
    outcome = run(sandbox, **(SHORT_READ_TIMEOUT if rule["fault"] == "timeout" else {}))
    assert sandbox.injected()
    assert outcome.error is None
    assert find_monthly_record(outcome).attempts > 1
    assert bars(sandbox).equals(sound_month)


def test_a_broken_download_goes_on_where_it_ended(sandbox: SandboxDeployment) -> None:
    """The retry sends `Range` with the same ETag."""
    sandbox.faults({**ZIP, "fault": "truncated_body"})
    outcome = run(sandbox)
    asked = [entry for entry in sandbox.requests() if entry["path"] == MONTHLY]
    assert [(entry["range"] is not None, entry["status"]) for entry in asked] == [(False, 200), (True, 206)]
    assert find_monthly_record(outcome).trust is Trust.OK


@pytest.mark.parametrize(
    ("fault", "asked"), [("wrong_etag_on_range", [False, True, False]), ("ignore_range", [False, True])]
)
def test_a_range_answered_with_another_version_is_thrown_away(
    fault: str, asked: list[bool], sandbox: SandboxDeployment, sound_month: pl.DataFrame
) -> None:
    """Parts of two versions are never joined.

    The whole file is requested again, unless the answer is whole.
    """
    sandbox.forget_requests()
    sandbox.faults({**ZIP, "fault": "truncated_body"}, {**ZIP, "fault": fault})
    outcome = run(sandbox)
    assert sandbox.injected() == 2
    assert find_monthly_record(outcome).trust is Trust.OK
    assert bars(sandbox).equals(sound_month)
    assert [
        bool(entry["range"])
        for entry in sandbox.requests()
        if entry["path"].endswith("/BTCUSDT-1h-2025-01.zip")
    ] == asked
    # The ETag shows the other version before the digest of the whole file is known.
    assert (
        len(
            [
                entry
                for entry in sandbox.requests()
                if entry["path"].endswith("/BTCUSDT-1h-2025-01.zip.CHECKSUM")
            ]
        )
        == 1
    )


def test_a_download_goes_on_in_a_new_process(sandbox: SandboxDeployment) -> None:
    """The partial file of an earlier run is used if the version is still the same."""
    sandbox.faults({**ZIP, "fault": "truncated_body", "times": "always"})
    assert isinstance(run(sandbox).error, NetworkError)
    sandbox.faults()
    sandbox.forget_requests()
    assert run(sandbox).error is None
    asked = [entry for entry in sandbox.requests() if entry["path"] == MONTHLY]
    assert [(entry["range"] is not None, entry["status"]) for entry in asked] == [(True, 206)]


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"fault": "status_403", "times": "always"}, AccessDeniedError),
        ({"fault": "status_451", "times": "always"}, AccessDeniedError),
        ({"fault": "status_500", "times": "always"}, ServerError),
        ({"fault": "reset", "times": "always"}, NetworkError),
        ({"fault": "timeout", "stall_s": 5, "times": "always"}, NetworkError),
        ({"fault": "redirect", "to": "http://127.0.0.2:1/x.zip", "times": "always"}, UntrustedPeerError),
    ],
    ids=lambda value: value["fault"] if isinstance(value, dict) else "",
)
def test_a_lasting_failure_is_one_error_and_nothing_is_published(
    rule: dict[str, Any], kind: type[CaptureError], sandbox: SandboxDeployment
) -> None:
    """The error contains the address, and the next run continues the download."""
    sandbox.faults({**ZIP, **rule})
    outcome = run(sandbox, **(SHORT_READ_TIMEOUT if rule["fault"] == "timeout" else {}))
    assert isinstance(outcome.error, kind)
    assert "BTCUSDT-1h-2025-01.zip" in str(outcome.error)
    assert "\n" not in str(outcome.error)
    assert not sandbox.deployment.lake.bars(outcome.partition).exists()
    sandbox.faults()
    assert run(sandbox).error is None


def test_a_zip_beyond_the_cap_is_refused_while_it_streams(sandbox: SandboxDeployment) -> None:
    """The limit does not depend on the stated length."""
    sandbox.faults({**ZIP, "fault": "gzip_bomb", "inflate_mb": 8, "times": "always"})
    outcome = run(sandbox, CAPTURE_HTTP_MAX_ZIP_MB="1")
    assert sandbox.injected()
    assert outcome.error is not None or find_monthly_record(outcome).trust is Trust.MISMATCH
    assert sum(file.stat().st_size for file in sandbox.root.rglob("*.partial")) < 3 << 20


def test_a_verified_file_is_never_asked_for_again(sandbox: SandboxDeployment) -> None:
    """The second run sends no request to the archive, and the bars have the same bytes."""
    first = run(sandbox)
    sandbox.forget_requests()
    second = run(sandbox)
    assert [entry for entry in sandbox.requests() if entry["path"].startswith("/data/")] == []
    assert first.bars is not None
    assert second.bars is not None
    assert first.bars.sha256 == second.bars.sha256
    assert second.archives is not None
    assert second.archives.fetched == []


def test_daily_files_stand_in_until_the_monthly_one_appears(sandbox: SandboxDeployment) -> None:
    """Then the monthly file has precedence, and the daily files remain."""
    sandbox.clock(now="2025-02-01T08:00:00Z")
    assert run(sandbox).bars.by_source == {"daily": 744}  # type: ignore[union-attr]
    sandbox.clock(now="2025-02-03T08:00:00Z")
    outcome = run(sandbox)
    assert outcome.bars is not None
    assert (outcome.bars.by_source, outcome.bars.duplicates, outcome.bars.conflicts) == (
        {"monthly": 744},
        744,
        0,
    )


def test_a_file_published_anew_is_kept_beside_its_predecessor(sandbox: SandboxDeployment) -> None:
    """The new checksum is detected, and the new version is downloaded and used. Both versions remain."""
    from capture_pipeline.klines.ingest.archives import recheck_partition  # noqa: PLC0415 - the one test that needs it

    before = find_monthly_record(run(sandbox))
    deployment = sandbox.deployment
    part = deployment.partition("BTCUSDT", Month(2025, 1))
    assert recheck_partition(deployment, part, deployment.rest.server_time_us()) == []
    sandbox.republish(MONTHLY)
    (marked,) = recheck_partition(deployment, part, deployment.rest.server_time_us())
    assert (marked.trust, marked.usable) == (Trust.REPUBLISHED, True)
    outcome = run(sandbox)
    after = find_monthly_record(outcome)
    assert after.trust is Trust.OK
    assert after.sha256_own != before.sha256_own
    assert outcome.archives is not None
    (kept,) = outcome.archives.manifest.superseded
    assert (kept.sha256_own, kept.usable) == (before.sha256_own, False)
    assert deployment.lake.resolve(kept.path or "").is_file()
    assert deployment.lake.resolve(after.path or "").is_file()


def test_a_new_version_that_cannot_be_trusted_does_not_displace_a_verified_one(
    sandbox: SandboxDeployment,
) -> None:
    """The exchange has published many wrong checksums, so the verified version remains in use."""
    from capture_pipeline.klines.ingest.archives import recheck_partition  # noqa: PLC0415 - the one test that needs it

    before = find_monthly_record(run(sandbox))
    deployment = sandbox.deployment
    part = deployment.partition("BTCUSDT", Month(2025, 1))
    sandbox.faults(_zip_path({**CHECKSUM, "fault": "checksum_wrong", "times": "always"}))
    assert len(recheck_partition(deployment, part, deployment.rest.server_time_us())) == 1
    outcome = run(sandbox)
    after = find_monthly_record(outcome)
    assert (after.sha256_own, after.usable) == (before.sha256_own, True)
    assert "not usable" in (after.detail or "")
    assert outcome.bars is not None
    assert outcome.bars.by_source == {"monthly": 744}


def test_first_and_last_month_go_before_the_rest(sandbox: SandboxDeployment) -> None:
    """A wrong symbol or range is reported before the other months are requested."""
    deployment = sandbox.reopened(CAPTURE_HISTORY_START="2024-09-01")
    now_us = deployment.rest.server_time_us()
    parts = deployment.partitions(["BTCUSDT"], Month.range(Month(2024, 9), Month(2025, 1)))
    sandbox.faults({"match": {"path": "*"}, "fault": "status_403", "times": "always"})
    sandbox.forget_requests()
    from capture_pipeline.klines.ingest.archives import fetch_partitions  # noqa: PLC0415 - the one test that needs it

    first = next(fetch_partitions(deployment, parts, now_us))
    assert not isinstance(first[1], ArchivesResult)
    months = {
        entry["path"].removesuffix(".zip.CHECKSUM")[-7:]
        for entry in sandbox.requests()
        if "CHECKSUM" in entry["path"]
    }
    assert months <= {"2024-09", "2025-01"}


def test_a_symbol_that_nobody_knows_is_one_clear_error(sandbox: SandboxDeployment) -> None:
    """The error comes before all months are requested."""
    deployment = sandbox.reopened(CAPTURE_SYMBOLS="NOSUCHUSDT", CAPTURE_HISTORY_START="2024-01-01")
    now_us = deployment.rest.server_time_us()
    with pytest.raises(CaptureError, match="the exchange does not know NOSUCHUSDT"):
        list(backfill(deployment, deployment.partitions(["NOSUCHUSDT"], deployment.months(now_us)), now_us))


def test_two_writers_of_one_partition_do_not_meet(
    sandbox: SandboxDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of the second writer names the owner of the lock."""
    from capture_pipeline.deployment import lake_guard  # noqa: PLC0415 - likewise
    from capture_pipeline.errors import BusyError  # noqa: PLC0415 - the one test that needs it
    from capture_pipeline.lake.locks import file_lock  # noqa: PLC0415 - likewise

    deployment = sandbox.deployment
    part = deployment.partition("BTCUSDT", Month(2025, 1))
    monkeypatch.setattr(lake_guard, "LOCK_TIMEOUT_S", 0.1)
    with file_lock(deployment.lake.lock(part)), pytest.raises(BusyError):
        fetch_archives(deployment, part, 0)


def _zip_path(rule: dict[str, Any]) -> dict[str, Any]:
    """Return the zip of a checksum file; faults of checksums are configured with the path of the zip."""
    return {**rule, "match": {"path": MONTHLY}} if rule["fault"].startswith(("checksum", "stale")) else rule
