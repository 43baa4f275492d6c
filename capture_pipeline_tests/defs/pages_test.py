"""Main workflows in Dagster's pages: backfills, a failed check, reports and a session."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from capture_pipeline.recorder.lifecycle import list_sessions, sessions_root
from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline_tests.support.dagster.browser import (
    chromium,
    launch_from_assets,
    launch_from_job,
    new_page,
)
from capture_pipeline_tests.support.dagster.stage import BTC, CHAIN, ETH, key
from capture_pipeline_tests.support.dagster.ui import Ui, free_port, make_project, run_ui, wait_for_daemons
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.waits import wait_for
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MONTHS = [f"2024-{month:02}" for month in range(1, 7)]
SETTINGS = {
    "CAPTURE_SYMBOLS": f"{BTC},{ETH}",
    "CAPTURE_HISTORY_START": "2024-01-01",
    "CAPTURE_HISTORY_END": "2024-06-30",
    "CAPTURE_INTERVAL": "1d",
    "CAPTURE_RECORDING_FREE_DISK_GB": "0.01",
    "CAPTURE_RECORDING_FLUSH_S": "0.2",
}
BUSY = {"symbol": BTC, "base_price": 60000, "tick_size": 0.01, "lot_size": 0.00001, "trades_per_day": 400_000}
WINDOW_AHEAD = dt.timedelta(seconds=75)
ALL = [key(month, symbol) for month in MONTHS for symbol in (BTC, ETH)]


@dataclass(frozen=True)
class Site:
    """A running deployment.

    Attributes:
        ui: Webserver of the deployment.
        sandbox: Settings, and controls of the sandbox exchange.
        browser: Browser that shows the pages.
    """

    ui: Ui
    sandbox: SandboxDeployment
    browser: Browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start `capture ui` with a sandbox exchange, and with a session that is planned for the next minutes."""
    project, port = make_project(tmp_path_factory.mktemp("project")), free_port()
    opens = dt.datetime.now(dt.UTC) + WINDOW_AHEAD
    planned = {
        "regime": "custom",
        "date": opens.date(),
        "time": opens.strftime("%H:%M:%S"),
        "duration_hours": 1,
        "symbols": [BTC],
    }
    (project / "pipeline.yaml").write_text(yaml.safe_dump({"sessions": [planned]}))
    settings = {**SETTINGS, "CAPTURE_CONFIG": str(project / "pipeline.yaml")}
    market = SandboxConfig.model_validate(
        {"now": "2024-07-10T12:00:30Z", "symbols": [BUSY, "ETHUSDT"], "speed": 10}
    )
    with (
        SandboxServer(market) as server,
        run_ui(project, port, CAPTURE_SANDBOX_URL=server.url, **settings),
        chromium() as browser,
    ):
        wait_for_daemons(port)
        yield Site(
            Ui(port, project / "dagster_home"),
            SandboxDeployment(server.url, project / "data", **settings),
            browser,
        )


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    with new_page(site.browser, site.ui.port) as page:
        yield page


def test_backfills_by_click_make_every_partition_and_a_failing_check_and_a_report_are_read(
    site: Site, page: Page
) -> None:
    """Backfills start from the job and from the list of assets; the check names partition and file."""
    ui, exchange = site.ui, site.sandbox
    by_job = launch_from_job(page, "initial_backfill", len(ALL))
    assert ui.wait_for_backfill(by_job) == "COMPLETED_SUCCESS"
    by_assets = launch_from_assets(page, "klines", CHAIN, len(ALL))
    assert ui.wait_for_backfill(by_assets) == "COMPLETED_SUCCESS"
    assert (
        ui.count_materializations(by_job)
        == ui.count_materializations(by_assets)
        == {name: Counter(ALL) for name in CHAIN}
    )

    bad = key(MONTHS[2], ETH)
    name = f"{ETH}-1d-{MONTHS[2]}"
    exchange.republish(f"data/spot/monthly/klines/{ETH}/1d/{name}.zip")
    (first,) = (exchange.root / "raw").rglob(f"{name}.*.zip")
    assert ui.run("initial_backfill", bad) == "SUCCESS"
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.write_bytes(content)
    assert ui.run("gap_fill", bad) == "FAILURE"
    page.goto("/assets/bars?view=checks&checkDetail=overview")
    page.get_by_text("raw_checksums").first.click()
    page.get_by_text("Failed", exact=True).first.wait_for()
    latest = page.locator("body")
    latest.get_by_text(bad).first.wait_for()
    latest.get_by_text(first.name).first.wait_for()

    page.goto("/assets/coverage_report?view=events")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="coverage.html").first.click()
    report = opened.value
    report.get_by_text(BTC).first.wait_for()
    assert "/reports/" in report.url


def test_a_planned_session_starts_by_its_sensor_is_followed_and_terminated(site: Site, page: Page) -> None:
    """The page of the run shows progress, and *Terminate* finishes the session."""
    ui = site.ui

    def run() -> dg.DagsterRun | None:
        with dg.DagsterInstance.from_config(str(ui.home)) as instance:
            runs = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            return next(
                (run for run in runs if run.tags.get("dagster/sensor_name") == "session_sensor"), None
            )

    page.goto("/locations/capture_pipeline/sensors/session_sensor")
    switch = page.locator("input[type=checkbox]").first
    switch.locator("xpath=..").click()
    expect(switch).to_be_checked()
    wait_for(lambda: run() is not None, 300, "no run was started for the planned session", every_s=1)
    found = run()
    assert found is not None
    page.goto(f"/runs/{found.run_id}")
    page.get_by_text("recording: ").first.wait_for()
    page.get_by_role("button", name="Terminate").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Terminate").last.click()
    (folder,) = list_sessions(sessions_root(site.sandbox.deployment.settings))
    wait_for(folder.metadata.exists, 120, "the session was not finished")
    wait_for(lambda: lock_owner_pid(folder) is None, 60)
    page.goto(f"/runs/{found.run_id}")
    page.get_by_text("Canceled").first.wait_for()
