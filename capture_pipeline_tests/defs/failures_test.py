"""End of a step with failed partitions: retries, failures, and the record of the good partitions."""

from typing import Any

import dagster as dg
import pytest

from capture_pipeline.defs.shared import failures, partitions
from capture_pipeline.errors import ConfigError, MalformedDataError, NetworkError, RateLimitedError
from capture_pipeline_tests.support.dagster.stage import BTC, ETH, FEBRUARY, JANUARY, Stage, block, key

MONTHLY = "/data/spot/monthly/klines/BTCUSDT/1h/BTCUSDT-1h-2024-01.zip"
OTHERS = {key(JANUARY, ETH), key(FEBRUARY, BTC), key(FEBRUARY, ETH)}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the wait before retries to zero."""
    monkeypatch.setattr(failures, "RETRIES", dg.RetryPolicy(max_retries=2, delay=0))


def retried(result: dg.ExecuteInProcessResult) -> int:
    return sum(event.event_type is dg.DagsterEventType.STEP_RESTARTED for event in result.all_events)


def failure(result: dg.ExecuteInProcessResult, step: str) -> Any:
    (event,) = [
        event
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_FAILURE and event.step_key == step
    ]
    return event.step_failure_data


def test_a_permanent_failure_of_one_partition_keeps_the_others_recorded(stage: Stage) -> None:
    """The step is not retried, names the partition, and records the other three partitions with metadata."""
    stage.sandbox.faults({"match": {"path": MONTHLY}, "fault": "status_403", "times": "always"})
    result = stage.run("initial_backfill", tags=block(JANUARY, FEBRUARY))
    assert stage.sandbox.injected()
    assert not result.success
    assert retried(result) == 0
    data = failure(result, "kline_archives")
    assert "1 failed: BTCUSDT 2024-01: " in data.error_display_string
    (row,) = data.user_failure_data.metadata["failed"].records
    assert (row.data["partition"], row.data["kind"], row.data["may_pass"]) == (
        "BTCUSDT 2024-01",
        "AccessDeniedError",
        False,
    )
    materializations = stage.materializations("kline_archives")
    assert set(materializations) == OTHERS
    assert materializations[key(JANUARY, ETH)].metadata["fetched_now"].value == 1
    assert (materializations[key(JANUARY, ETH)].tags or {})["dagster/partition/symbol"] == ETH
    assert stage.materializations("bars") == {}


@pytest.mark.usefixtures("at_once")
def test_a_transient_failure_is_tried_again_and_then_all_is_recorded_once(stage: Stage) -> None:
    """If the client's retries do not suffice, the step is retried; each partition is recorded once."""
    stage.sandbox.faults({"match": {"path": MONTHLY}, "fault": "status_503", "times": 4})
    result = stage.run("initial_backfill", tags=block(JANUARY, FEBRUARY))
    assert stage.sandbox.injected() == 4
    assert result.success
    assert retried(result) == 1
    records = stage.instance.fetch_materializations(dg.AssetKey("kline_archives"), limit=100).records
    assert sorted(str(record.partition_key) for record in records) == sorted({*OTHERS, key(JANUARY, BTC)})


@pytest.mark.usefixtures("at_once")
def test_a_transient_failure_that_stays_ends_the_step_with_the_others_recorded(stage: Stage) -> None:
    """After the last retry the step fails in the same way as with a permanent error."""
    stage.sandbox.faults({"match": {"path": MONTHLY}, "fault": "reset", "times": "always"})
    result = stage.run("initial_backfill", tags=block(JANUARY, FEBRUARY))
    assert retried(result) == 2
    assert (
        failure(result, "kline_archives").user_failure_data.metadata["failed"].records[0].data["may_pass"]
        is True
    )
    records = stage.instance.fetch_materializations(dg.AssetKey("kline_archives"), limit=100).records
    assert sorted(str(record.partition_key) for record in records) == sorted(OTHERS)


def test_a_ban_asks_for_a_retry_no_sooner_than_the_exchange_says() -> None:
    """Retry-After replaces the delay of the policy, up to 15 minutes."""
    for retry_after_s, expected in ((77.0, 77.0), (9_999.0, 900.0)):
        with pytest.raises(dg.RetryRequested) as raised:
            failures.raise_retry_or_failure(
                0, {}, NetworkError("reset"), RateLimitedError("429", retry_after_s=retry_after_s)
            )
        assert raised.value.seconds_to_wait == expected
    with pytest.raises(dg.RetryRequested) as raised:
        failures.raise_retry_or_failure(1, {}, NetworkError("reset"))
    assert raised.value.seconds_to_wait is not None
    assert 10 <= raised.value.seconds_to_wait <= 20


def test_what_no_retry_can_help_fails_at_once() -> None:
    """Without a transient error, or without retries left, the step fails."""
    for retries, errors in (
        (0, [MalformedDataError("x")]),
        (3, [NetworkError("x")]),
        (3, [NetworkError("x"), MalformedDataError("y")]),
    ):
        with pytest.raises(dg.Failure) as raised:
            failures.raise_retry_or_failure(retries, {}, *errors)
        assert raised.value.allow_retries is False
    with pytest.raises(dg.RetryRequested):
        failures.raise_retry_or_failure(0, {}, NetworkError("x"), MalformedDataError("y"))


@pytest.mark.parametrize(
    "wrong",
    [
        "2023-12|BTCUSDT",
        "2024-01-01|BTCUSDT",
        "2024-01|DOGEUSDT",
        "BTCUSDT|2024-01",
        "2024-01|../x",
        "2024-01|BTCUSDT\n",
        "",
    ],
)
def test_a_key_of_no_partition_never_reaches_the_domain(wrong: str, stage: Stage) -> None:
    """Run tags are free text; keys that are no partitions of the deployment are refused."""
    with pytest.raises(ConfigError, match="is not a partition of this deployment"):
        partitions.partitions_of(stage.deployment, [wrong])


def test_a_run_of_a_range_that_names_one_partition_too_is_refused(stage: Stage) -> None:
    """Dagster would build the single partition and count the whole range as built."""
    single = {"dagster/partition/month": JANUARY, "dagster/partition/symbol": BTC}
    result = stage.materialize(["kline_archives"], tags={**block(JANUARY, FEBRUARY), **single})
    message = failure(result, "kline_archives").error_display_string
    assert (
        "2024-01|BTCUSDT to 2024-02|ETHUSDT, but its tag dagster/partition/month names one of them" in message
    )
    assert stage.materializations("kline_archives") == {}
