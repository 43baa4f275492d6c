"""Run requests of the schedules: one run covers every symbol."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from capture_pipeline_tests.support.dagster.definitions import SETTINGS
from capture_pipeline_tests.support.dagster.stage import BTC, ETH, FEBRUARY, JANUARY, MARCH, Stage, block, key
from capture_pipeline_tests.support.deployment import SandboxDeployment


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Create an instance on the disk, which Dagster requires for schedules."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


def tick(stage: Stage, now: str) -> dg.RunRequest | dg.SkipReason:
    """Return the result of the daily schedule at a time."""
    stage.sandbox.clock(now=now)
    schedule = stage.definitions.resolve_schedule_def("daily_update_schedule")
    context = dg.build_schedule_context(
        instance=stage.instance,
        scheduled_execution_time=datetime.fromisoformat(now).astimezone(UTC),
        resources={"deployment": stage.deployment},
        repository_def=stage.definitions.get_repository_def(),
    )
    answer = schedule(context)
    assert isinstance(answer, dg.RunRequest | dg.SkipReason)
    return answer


@pytest.mark.parametrize(
    ("now", "first", "last"),
    [
        ("2024-03-10T06:30:00Z", MARCH, MARCH),
        ("2024-03-03T06:30:00Z", MARCH, MARCH),
        ("2024-03-02T06:30:00Z", FEBRUARY, MARCH),
        ("2024-03-01T06:30:00Z", FEBRUARY, MARCH),
        ("2024-01-01T06:30:00Z", JANUARY, JANUARY),
        ("2024-04-01T06:30:00Z", MARCH, MARCH),
    ],
)
def test_the_daily_update_asks_for_the_open_month_and_early_in_it_for_the_one_before(
    now: str, first: str, last: str, stage: Stage
) -> None:
    """One run covers all symbols; no month before or after the history is requested."""
    request = tick(stage, now)
    assert isinstance(request, dg.RunRequest)
    assert {name: request.tags[name] for name in block(first, last)} == block(first, last)
    assert request.run_key == f"daily-{now[:13]}"


def test_its_one_run_makes_every_symbol_of_those_months(stage: Stage) -> None:
    """The tags of the request name four partitions; each is materialized."""
    request = tick(stage, "2024-03-02T06:30:00Z")
    assert isinstance(request, dg.RunRequest)
    assert stage.run("daily_update", tags=request.tags).success
    wanted = {key(month, symbol) for month in (FEBRUARY, MARCH) for symbol in (BTC, ETH)}
    assert set(stage.materializations("bar_gaps")) == wanted
    assert stage.materializations("bar_gaps")[key(MARCH, ETH)].metadata["expected"].value == 24 + 6


def test_a_failed_update_is_tried_again_on_the_same_day_and_one_that_was_made_is_not(stage: Stage) -> None:
    """The next day starts again with the first attempt."""
    stage.sandbox.faults({"match": {"path": "/data/spot/*"}, "fault": "status_451", "times": "always"})
    for hour in ("06", "09"):
        request = tick(stage, f"2024-03-10T{hour}:30:00Z")
        assert isinstance(request, dg.RunRequest)
        assert not stage.run("daily_update", tags=request.tags).success
    stage.sandbox.faults()
    request = tick(stage, "2024-03-10T12:30:00Z")
    assert isinstance(request, dg.RunRequest)
    assert stage.run("daily_update", tags=request.tags).success
    answer = tick(stage, "2024-03-10T15:30:00Z")
    assert isinstance(answer, dg.SkipReason)
    assert answer.skip_message == "the update of 2024-03-10 is done or in progress"
    assert isinstance(tick(stage, "2024-03-11T06:30:00Z"), dg.RunRequest)


def test_after_the_end_of_the_history_it_says_why_it_does_nothing(stage: Stage) -> None:
    answer = tick(stage, "2024-04-10T06:30:00Z")
    assert isinstance(answer, dg.SkipReason)
    assert answer.skip_message == "the configured history does not include the current month"


def test_without_an_exchange_it_says_so(stage: Stage, tmp_path: Path) -> None:
    """The clock of the sandbox is unknown; the tick is skipped without an error."""
    stage.sandbox = SandboxDeployment("http://127.0.0.1:9", tmp_path / "data", **SETTINGS)
    schedule = stage.definitions.resolve_schedule_def("daily_update_schedule")
    context = dg.build_schedule_context(
        instance=stage.instance,
        scheduled_execution_time=datetime(2024, 3, 10, tzinfo=UTC),
        resources={"deployment": stage.deployment},
        repository_def=stage.definitions.get_repository_def(),
    )
    answer = schedule(context)
    assert isinstance(answer, dg.SkipReason)
    assert "the time of the exchange cannot be requested" in (answer.skip_message or "")


def test_by_the_clock_the_clean_up_goes_before_the_update_and_the_report_after(
    definitions: dg.Definitions,
) -> None:
    """All schedules are in UTC and run by default."""
    schedules = {schedule.name: schedule for schedule in definitions.get_repository_def().schedule_defs}
    assert {name: (schedule.cron_schedule, schedule.job_name) for name, schedule in schedules.items()} == {
        "clean_up_schedule": ("15 3 * * *", "clean_up"),
        "daily_update_schedule": ("30 6-21/3 * * *", "daily_update"),
        "coverage_schedule": ("0 8 * * *", "coverage"),
    }
    assert {schedule.execution_timezone for schedule in schedules.values()} == {"UTC"}
    assert {schedule.default_status for schedule in schedules.values()} == {dg.DefaultScheduleStatus.RUNNING}
