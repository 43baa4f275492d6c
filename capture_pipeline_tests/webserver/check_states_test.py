"""Cached states of checks, compared with the states that Dagster derives from all executions."""

import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.asset_check_state import AssetCheckState, bulk_update_asset_check_state
from dagster._core.storage.event_log.base import EventLogStorage

from capture_pipeline.webserver import check_states
from capture_pipeline.webserver.check_states import CheckStates, Key

MONTHS = dg.StaticPartitionsDefinition(["2024-01", "2024-02"])
BOTH = dg.MultiPartitionsDefinition(
    {"month": MONTHS, "symbol": dg.StaticPartitionsDefinition(["BTCUSDT", "ETHUSDT"])}
)
PARTITIONED, WHOLE = (
    dg.AssetCheckKey(dg.AssetKey("bars"), "sound"),
    dg.AssetCheckKey(dg.AssetKey("report"), "sound"),
)
KEYS: list[Key] = [(PARTITIONED, BOTH), (WHOLE, None)]


def end_if_wanted(tags: Mapping[str, str]) -> None:
    """Fail if the tags of the run say so."""
    if tags.get("fails"):
        raise dg.Failure("as the test wants it")


@dg.asset(partitions_def=BOTH)
def bars(context: dg.AssetExecutionContext) -> None:
    """Asset with partitions by month and symbol."""
    end_if_wanted(context.run.tags)


@dg.asset
def report() -> None:
    """Unpartitioned asset."""


@dg.asset_check(asset=bars, name="sound", partitions_def=BOTH)
def bars_are_sound(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Pass if the tags of the run say so."""
    end_if_wanted(context.run.tags)
    return dg.AssetCheckResult(passed="passes" in context.run.tags)


@dg.asset_check(asset=report, name="sound")
def report_is_sound(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
    """Pass if the tags of the run say so."""
    return dg.AssetCheckResult(passed="passes" in context.run.tags)


DEFS = dg.Definitions(assets=[bars, report], asset_checks=[bars_are_sound, report_is_sound])


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Create an instance with files, like that of the webserver."""
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield instance


def plain(states: Any) -> dict[str, Any]:
    """Return the partitions by check and status; True for an unpartitioned check."""
    shown: dict[str, Any] = {}
    for key, state in states.items():
        for status, subset in state.subsets.items():
            found = (
                sorted(subset.subset_value.get_partition_keys())
                if subset.is_partitioned
                else subset.bool_value
            )
            if found:
                shown[f"{key.asset_key.to_user_string()} {status.value}"] = found
    return shown


def derived(instance: dg.DagsterInstance) -> dict[str, Any]:
    return plain(
        bulk_update_asset_check_state(instance, KEYS, {key: AssetCheckState.empty() for key, _ in KEYS})
    )


def run(instance: dg.DagsterInstance, selection: str, partition: str | None, *tags: str) -> str:
    """Run an asset, its check, or both; return the id of the run."""
    asset = "bars" if partition else "report"
    chosen = {
        "both": dg.AssetSelection.assets(asset),
        "asset": dg.AssetSelection.assets(asset).without_checks(),
        "check": dg.AssetSelection.checks_for_assets(dg.AssetKey(asset)),
    }[selection]
    job = dg.define_asset_job("one", chosen).resolve(asset_graph=DEFS.resolve_asset_graph())
    given = dict.fromkeys(tags, "yes")
    return str(
        job.execute_in_process(
            instance=instance, partition_key=partition, tags=given, raise_on_error=False
        ).run_id
    )


@pytest.mark.parametrize("seed", range(4))
def test_after_any_history_they_are_what_dagster_derives(
    instance: dg.DagsterInstance, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random histories contain runs, passed and failed checks, deleted runs and wiped assets."""
    monkeypatch.setattr(check_states, "OVERLAP", 0)
    choose = random.Random(seed)  # noqa: S311
    states, runs = CheckStates(), list[str]()
    seen: set[str] = set()
    for _ in range(14):
        partition = choose.choice([*BOTH.get_partition_keys(), None])
        match choose.choice(["both", "both", "asset", "check", "delete", "wipe"]):
            case "delete" if runs:
                instance.delete_run(runs.pop(choose.randrange(len(runs))))
            case "wipe" if choose.random() < 0.3:
                instance.wipe_assets([dg.AssetKey("bars")])
            case "asset" | "both" as what:
                runs.append(
                    run(instance, what, partition, *choose.choice([("passes",), ("passes",), (), ("fails",)]))
                )
            case "check" as what if partition is None:
                runs.append(
                    run(instance, what, partition, *choose.choice([("passes",), ("passes",), (), ("fails",)]))
                )
            case _:
                continue
        expected = derived(instance)
        assert plain(states.update(instance, KEYS, {})) == expected
        seen |= set(expected)
    assert len(seen) > 2


@pytest.mark.parametrize("what", ["runs", "assets"])
def test_what_was_deleted_has_no_state(instance: dg.DagsterInstance, what: str) -> None:
    """Executions of a deleted run and materializations of a wiped asset are ignored."""
    states = CheckStates()
    done = run(instance, "both", "2024-01|BTCUSDT", "passes")
    assert plain(states.update(instance, KEYS, {})) == {"bars SUCCEEDED": ["2024-01|BTCUSDT"]}
    if what == "runs":
        instance.delete_run(done)
    else:
        instance.wipe_assets([dg.AssetKey("bars")])
    assert plain(states.update(instance, KEYS, {})) == derived(instance)


def test_a_planned_check_takes_the_end_of_its_run(instance: dg.DagsterInstance) -> None:
    """The run was killed, so the check has no further event."""
    states = CheckStates()
    job = dg.define_asset_job("one", dg.AssetSelection.assets("bars")).resolve(
        asset_graph=DEFS.resolve_asset_graph()
    )
    created = instance.create_run_for_job(
        job, tags={"dagster/partition": "2024-01|BTCUSDT"}, status=dg.DagsterRunStatus.STARTED
    )
    assert (
        plain(states.update(instance, KEYS, {}))
        == derived(instance)
        == {"bars IN_PROGRESS": ["2024-01|BTCUSDT"]}
    )
    instance.report_run_failed(created)
    assert (
        plain(states.update(instance, KEYS, {}))
        == derived(instance)
        == {"bars EXECUTION_FAILED": ["2024-01|BTCUSDT"]}
    )


def test_where_nothing_happened_no_execution_is_read(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an event only the partitions near it are read."""
    run(instance, "both", "2024-01|BTCUSDT", "passes")
    states, read = CheckStates(), []
    storage = type(instance.event_log_storage)
    original = storage.get_asset_check_partition_info

    def counted(self: EventLogStorage, *args: Any, **options: Any) -> Any:
        read.append(original(self, *args, **options))
        return read[-1]

    monkeypatch.setattr(storage, "get_asset_check_partition_info", counted)
    monkeypatch.setattr(check_states, "OVERLAP", 0)
    first = states.update(instance, KEYS, {})
    assert states.update(instance, KEYS, {}) == first
    assert [len(some) for some in read] == [1]
    run(instance, "both", "2024-02|ETHUSDT", "passes")
    states.update(instance, KEYS, {})
    assert [len(some) for some in read] == [1, 1, 0]


def test_a_kept_state_is_derived_again_after_a_time_and_for_other_partitions(
    instance: dg.DagsterInstance,
) -> None:
    """Changes without an event are found then."""
    now = [0.0]
    states = CheckStates(lambda: now[0])
    run(instance, "both", "2024-01|BTCUSDT", "passes")
    before = plain(states.update(instance, KEYS, {}))
    assert before == {"bars SUCCEEDED": ["2024-01|BTCUSDT"]}
    storage: Any = instance.event_log_storage
    with storage.index_connection() as connection:
        connection.exec_driver_sql("update asset_check_executions set execution_status = 'FAILED'")
    assert plain(states.update(instance, KEYS, {})) == before
    now[0] = check_states.MAX_AGE_S
    assert plain(states.update(instance, KEYS, {})) == {"bars FAILED": ["2024-01|BTCUSDT"]}
    fewer = dg.MultiPartitionsDefinition(
        {"month": MONTHS, "symbol": dg.StaticPartitionsDefinition(["ETHUSDT"])}
    )
    assert plain(states.update(instance, [(PARTITIONED, fewer)], {})) == {}


def test_the_webserver_keeps_states() -> None:
    """The cache is active from the start of the webserver."""
    program = (
        "from dagster._core.storage import asset_check_state as place\n"
        "from dagster_webserver import cli\n"
        "cli.cli = lambda **_: print(place.bulk_update_asset_check_state.__qualname__)\n"
        "from capture_pipeline.webserver.app import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "CheckStates.update\n"
