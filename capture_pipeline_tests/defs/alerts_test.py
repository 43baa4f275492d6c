"""Alerts of Dagster's events: the sensor alone, and the daemon with real receivers."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from capture_pipeline_tests.support.dagster.stage import BTC, JANUARY, Stage, key
from capture_pipeline_tests.support.dagster.ui import (
    LOCATION,
    Ui,
    free_port,
    make_project,
    run_ui,
    wait_for_daemons,
)
from capture_pipeline_tests.support.deployment import SandboxDeployment
from capture_pipeline_tests.support.receivers import HttpReceiver, MailReceiver, settings_for
from capture_pipeline_tests.support.waits import wait_for
from sandbox_exchange.config.models import SandboxConfig
from sandbox_exchange.server.server import SandboxServer

PARTITION = key(JANUARY, BTC)
NOW = "2024-03-10T12:00:30Z"


@pytest.fixture
def web() -> Iterator[HttpReceiver]:
    with HttpReceiver().running() as receiver:
        yield receiver


@pytest.fixture
def mail() -> Iterator[MailReceiver]:
    with MailReceiver().running() as receiver:
        yield receiver


def variables(web: HttpReceiver, mail: MailReceiver) -> dict[str, str]:
    channels = [channel.model_dump(mode="json") for channel in settings_for(web, mail).channels]
    return {
        "CAPTURE_ALERTS_CHANNELS": json.dumps(channels),
        "CAPTURE_ALERTS_SECRETS": json.dumps({"ops": web.address}),
        "CAPTURE_ALERTS_UI_URL": "http://ui.example.org",
        "CAPTURE_RECORDING_FREE_DISK_GB": "0.001",
    }


@pytest.fixture
def alerting(stage: Stage, web: HttpReceiver, mail: MailReceiver) -> Stage:
    """Return the stage with both channels; its settings are set in the environment, too."""
    environment = {**stage.sandbox._environment, **variables(web, mail)}
    stage.sandbox = SandboxDeployment(stage.sandbox.url, stage.sandbox.root, **environment)
    return stage


def report(
    stage: Stage,
    *,
    passed: bool,
    level: str | None = "critical",
    severity: str = "ERROR",
    partition: str | None = PARTITION,
) -> None:
    """Report an evaluation in the same way as a run or a sensor."""
    stage.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("bar_gaps"),
            check_name="coverage",
            passed=passed,
            severity=dg.AssetCheckSeverity(severity),
            description="94.0000 % of bars\\_x are there",
            metadata={"level": level} if level else {},
            partition=partition,
        )
    )


def test_a_failed_check_and_its_recovery_arrive_at_both_receivers(
    alerting: Stage, web: HttpReceiver, mail: MailReceiver
) -> None:
    """A repeated failure sends no message; the text has no Markdown escapes."""
    assert alerting.tick("alert_sensor").reason == "0 new alerts, 0 messages sent"
    for passed in (True, False, False, True):
        report(alerting, passed=passed, partition=None)
        assert alerting.tick("alert_sensor").runs == []
    failed, passes = "CRITICAL: bar_gaps: coverage failed", "RESOLVED: bar_gaps: coverage passes again"
    assert web.titles() == mail.subjects() == [failed, passes]
    assert "94.0000 % of bars_x are there" in web.texts[0]


@pytest.mark.parametrize(
    ("level", "severity", "heading"),
    [
        ("info", "ERROR", "INFO"),
        ("warning", "ERROR", "WARNING"),
        (None, "ERROR", "CRITICAL"),
        (None, "WARN", "WARNING"),
        ("odd", "WARN", "WARNING"),
    ],
)
def test_the_level_is_the_gates_or_else_that_of_the_severity(
    level: str | None, severity: str, heading: str, alerting: Stage, web: HttpReceiver
) -> None:
    alerting.tick("alert_sensor")
    report(alerting, passed=False, level=level, severity=severity, partition=None)
    alerting.tick("alert_sensor")
    assert web.titles() == [f"{heading}: bar_gaps: coverage failed"]


def test_what_happened_before_the_sensor_began_is_not_sent(alerting: Stage, web: HttpReceiver) -> None:
    report(alerting, passed=False)
    alerting.tick("alert_sensor")
    report(alerting, passed=False, partition=key(JANUARY, "ETHUSDT"))
    alerting.tick("alert_sensor")
    assert web.titles() == ["CRITICAL: bar_gaps: coverage of 2024-01|ETHUSDT failed"]


def test_a_disk_that_refuses_loses_no_event(alerting: Stage, web: HttpReceiver) -> None:
    """The cursor is not changed; the next tick reports the event."""
    alerting.tick("alert_sensor")
    folder = alerting.sandbox.root / "state" / "alerts"
    report(alerting, passed=False)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("")
    assert "alerts cannot be recorded now" in alerting.tick("alert_sensor").reason
    folder.unlink()
    aside.rename(folder)
    alerting.tick("alert_sensor")
    assert len(web.texts) == 1


def test_without_a_channel_the_sensor_does_nothing(stage: Stage) -> None:
    report(stage, passed=False)
    assert stage.tick("alert_sensor").reason == "alerts.channels lists no channel"
    assert not (stage.sandbox.root / "state" / "alerts").exists()


def test_a_failed_run_is_told_with_its_step_and_ends_with_a_run_that_succeeds(
    alerting: Stage, web: HttpReceiver, tmp_path: Path
) -> None:
    """The key is job and partition; the text names step and cause, and the page is linked."""
    alerting.tick("alert_sensor")
    good = alerting.sandbox
    fault = {"match": {"path": "*BTCUSDT-1h-2024-01.zip"}, "fault": "status_403", "times": "always"}
    good.faults(fault)
    failed = alerting.run("initial_backfill", PARTITION)
    assert not failed.success
    alerting.tick("alert_sensor")
    good.faults()
    assert alerting.run("initial_backfill", PARTITION).success
    alerting.tick("alert_sensor")
    titles = [title for title in web.titles() if "Run of" in title]
    assert titles == [
        f"WARNING: Run of initial_backfill for {PARTITION} failed",
        f"RESOLVED: Run of initial_backfill for {PARTITION} succeeded",
    ]
    assert "kline_archives: 1 failed" in web.texts[0]
    assert f"page: http://ui.example.org/runs/{failed.run_id}" in web.texts[0]
    del tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_daemon_sends_a_failing_check_and_a_failed_run_and_their_ends(
    web: HttpReceiver, mail: MailReceiver, tmp_path: Path
) -> None:
    """The archive refuses a file; then two days are missing; then REST has them."""
    project, port, hole = (
        make_project(tmp_path),
        free_port(),
        {"start": "2024-01-10T00:00:00Z", "end": "2024-01-12T00:00:00Z"},
    )
    config = {"now": NOW, "frozen": True, "archive_omissions": [{"symbol": BTC, **hole}]}
    settings = {
        "CAPTURE_SYMBOLS": BTC,
        "CAPTURE_HISTORY_START": f"{JANUARY}-01",
        "CAPTURE_HISTORY_END": "2024-01-31",
    }
    run, check = f"Run of initial_backfill for {PARTITION}", f"bar_gaps: coverage of {PARTITION}"

    def both_have(title: str) -> None:
        wait_for(
            lambda: title in web.titles() and title in mail.subjects(),
            200,
            f"{title} is not among {web.titles()} {mail.subjects()}",
        )

    with (
        SandboxServer(SandboxConfig.model_validate(config)) as server,
        run_ui(project, port, CAPTURE_SANDBOX_URL=server.url, **settings, **variables(web, mail)),
    ):
        exchange = SandboxDeployment(server.url, project / "data")
        refused = {"match": {"path": "*BTCUSDT-1h-2024-01.zip"}, "fault": "status_403", "times": "always"}
        missing = {"match": {"path": "/api/v3/klines"}, "fault": "rest_hole", **hole}
        wait_for_daemons(port)
        ui = Ui(port, project / "dagster_home")
        exchange.faults(refused)
        backfill(ui, "COMPLETED_FAILED", "initial_backfill")
        both_have(f"WARNING: {run} failed")
        exchange.faults(missing)
        backfill(ui, "COMPLETED_SUCCESS", "initial_backfill")
        both_have(f"RESOLVED: {run} succeeded")
        both_have(f"CRITICAL: {check} failed")
        exchange.faults()
        exchange.clock(advance_s=7200)  # the next attempt has to wait an hour
        backfill(ui, "COMPLETED_SUCCESS", "gap_fill")
        both_have(f"RESOLVED: {check} passes again")
    assert len(set(web.titles())) == len(web.titles())


def backfill(ui: Ui, status: str, job: str) -> None:
    """Launch a job for the partition and wait for its end."""
    selector = {"partitionSetName": f"{job}_partition_set", "repositorySelector": LOCATION}
    launched = ui.launch([PARTITION], selector=selector)
    deadline = time.monotonic() + 400
    while (now := ui.status(launched)) not in {"COMPLETED_SUCCESS", "COMPLETED_FAILED"}:
        assert time.monotonic() < deadline, now
        time.sleep(0.5)
    assert now == status
