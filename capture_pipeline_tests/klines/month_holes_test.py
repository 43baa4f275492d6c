"""Holes of a usable monthly file: daily files fill them, and each day is requested once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from capture_pipeline.binance.periods import Month
from capture_pipeline.klines.backfill import Outcome, backfill
from capture_pipeline.klines.ingest.archives import fetch_archives
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import ArchivesManifest
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment

MONTHLY = {"symbol": "BTCUSDT", "granularities": ["monthly"]}
JANUARY = {"CAPTURE_HISTORY_START": "2025-01-01", "CAPTURE_HISTORY_END": "2025-01-31"}
"""The first listing generates every file of the month, which can take long on a busy machine."""


def run(sandbox: SandboxDeployment, **environment: str) -> Outcome:
    """Backfill January from archive files only."""
    deployment = sandbox.reopened(**environment)
    (outcome,) = backfill(
        deployment, [deployment.partition("BTCUSDT", Month(2025, 1))], deployment.now_us(), use_rest=False
    )
    assert outcome.error is None
    return outcome


def list_requested_days(sandbox: SandboxDeployment) -> Counter[str]:
    """Return the requests to the archive since the last call, by the day of the file or `listing`."""
    entries = [entry["path"] for entry in sandbox.requests() if not entry["path"].startswith("/api/")]
    sandbox.forget_requests()
    return Counter(
        "listing" if path == "/data.binance.vision/" else path.rpartition("BTCUSDT-1h-")[2].partition(".")[0]
        for path in entries
    )


@pytest.mark.parametrize(
    ("holes", "days"),
    [
        ([("2025-01-10T03:00:00Z", "2025-01-10T06:00:00Z")], ["10"]),
        (
            [
                ("2025-01-01T00:00:00Z", "2025-01-01T01:00:00Z"),
                ("2025-01-31T23:00:00Z", "2025-02-01T00:00:00Z"),
            ],
            ["01", "31"],
        ),
        ([("2025-01-10T20:00:00Z", "2025-01-13T02:00:00Z")], ["10", "11", "12", "13"]),
    ],
    ids=["within a day", "first and last hour", "over midnights"],
)
def test_daily_files_fill_the_holes_of_the_monthly_one(
    holes: list[tuple[str, str]], days: list[str], tmp_path: Path
) -> None:
    """REST is not used, and a second run sends no request."""
    config: dict[str, Any] = {
        "listed": "2024-12-01",
        "archive_omissions": [{**MONTHLY, "start": a, "end": b} for a, b in holes],
    }
    with run_sandbox_deployment(tmp_path, config, **JANUARY) as sandbox:
        outcome = run(sandbox)
        assert outcome.archives is not None
        assert set(outcome.archives.fetched) == {
            "BTCUSDT-1h-2025-01.zip",
            *(f"BTCUSDT-1h-2025-01-{day}.zip" for day in days),
        }
        assert outcome.gaps is not None
        assert (
            outcome.gaps.missing,
            set(outcome.gaps.gaps["filled_by"]),
            set(outcome.gaps.gaps["cause"]),
        ) == (
            0,
            {"daily"},
            {"archive_omission"},
        )
        list_requested_days(sandbox)
        run(sandbox)
        assert list_requested_days(sandbox) == {}


def test_a_whole_monthly_file_asks_for_no_daily_one(tmp_path: Path) -> None:
    """Two requests are sent, for the file and its checksum."""
    with run_sandbox_deployment(tmp_path, {"listed": "2024-12-01"}, **JANUARY) as sandbox:
        run(sandbox)
        assert list_requested_days(sandbox) == {"2025-01": 2}


def test_a_hole_that_the_calendar_covers_asks_for_no_daily_file(tmp_path: Path) -> None:
    """The same holds for a hole of whole days."""
    outages = [{"start": "2025-01-10T03:00:00Z", "end": "2025-01-13T06:00:00Z"}]
    calendar = tmp_path / "outages.yaml"
    calendar.write_text("outages: [{start: 2025-01-10T03:00:00Z, end: 2025-01-13T06:00:00Z}]\n")
    with run_sandbox_deployment(
        tmp_path / "d", {"listed": "2024-12-01", "outages": outages}, **JANUARY
    ) as sandbox:
        run(sandbox, CAPTURE_GAPS_OUTAGE_CALENDAR=str(calendar))
        assert list_requested_days(sandbox) == {"2025-01": 2}
        # Without the calendar the days are requested: two have a file with a part of the hole, two have none.
        run(sandbox)
        assert list_requested_days(sandbox) == {"listing": 1, "2025-01-10": 2, "2025-01-13": 2}
        run(sandbox)
        assert list_requested_days(sandbox) == {}


def test_a_day_that_lacks_them_too_is_asked_for_once(tmp_path: Path) -> None:
    """The daily file is recorded, and the hole remains for REST."""
    with run_sandbox_deployment(
        tmp_path,
        {
            "listed": "2024-12-01",
            "archive_omissions": [
                {"symbol": "BTCUSDT", "start": "2025-01-10T03:00:00Z", "end": "2025-01-10T06:00:00Z"}
            ],
        },
        **JANUARY,
    ) as sandbox:
        assert run(sandbox).gaps.missing == 3  # type: ignore[union-attr]
        assert list_requested_days(sandbox) == {"2025-01": 2, "2025-01-10": 2}
        run(sandbox)
        assert list_requested_days(sandbox) == {}


def test_the_month_of_the_listing_costs_one_request_more(tmp_path: Path) -> None:
    """One listing shows nineteen days without a file, and the result is recorded."""
    with run_sandbox_deployment(
        tmp_path, {"symbols": [{"symbol": "BTCUSDT", "listed": "2025-01-20T09:00:00Z"}]}, **JANUARY
    ) as sandbox:
        run(sandbox)
        assert list_requested_days(sandbox) == {"2025-01": 2, "listing": 1, "2025-01-20": 2}
        run(sandbox)
        assert list_requested_days(sandbox) == {}


def test_a_day_whose_file_was_not_out_yet_is_asked_for_again_once_the_monthly_file_is(tmp_path: Path) -> None:
    """Half an hour after midnight the file of the last day is not published yet."""
    config = {
        "listed": "2024-12-01",
        "now": "2025-01-31T12:00:00Z",
        "archive_omissions": [{**MONTHLY, "start": "2025-01-31T03:00:00Z", "end": "2025-01-31T06:00:00Z"}],
    }
    with run_sandbox_deployment(tmp_path, config, **JANUARY) as sandbox:
        deployment = sandbox.deployment
        part = deployment.partition("BTCUSDT", Month(2025, 1))
        fetch_archives(deployment, part, deployment.rest.server_time_us())
        sandbox.clock(now="2025-02-01T00:30:00Z")
        fetch_archives(deployment, part, deployment.rest.server_time_us())
        manifest = read_model(deployment.lake.archives_manifest(part), ArchivesManifest)
        assert manifest is not None
        assert "2025-01-31" in next(
            record.name
            for record in manifest.files
            if record.trust == "not_published" and len(record.name) > 22
        )
        sandbox.clock(now="2025-02-03T00:30:00Z")
        fetched = fetch_archives(deployment, part, deployment.rest.server_time_us()).fetched
    assert sorted(fetched) == ["BTCUSDT-1h-2025-01-31.zip", "BTCUSDT-1h-2025-01.zip"]
