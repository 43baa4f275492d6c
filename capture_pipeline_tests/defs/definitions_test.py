"""Rules for all definitions, and a snapshot of them in one committed file."""

import difflib
import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.freshness import CronFreshnessPolicy

from capture_pipeline.definitions import build_definitions
from capture_pipeline.defs.shared import partitions
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.settings.models import History, Settings
from capture_pipeline_tests.support.dagster.stage import BTC, CHAIN, ETH, FEBRUARY, JANUARY, MARCH, key
from capture_pipeline_tests.support.deployment import NO_SETTINGS, QUICK

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).with_name("definitions.json")
UPSTREAM = {
    "kline_archives": set(),
    "kline_topups": {"kline_archives"},
    "bars": {"kline_archives", "kline_topups"},
    "bar_conflicts": {"kline_archives", "kline_topups"},
    "bar_exclusions": {"kline_archives", "kline_topups"},
    "bar_gaps": {"bars"},
    "month_reconciliation": {"bars"},
    "coverage_report": {"bar_gaps"},
    "golden_samples": set(),
    "golden_trades": {"golden_samples"},
    "golden_depth": {"golden_samples"},
    "golden_snapshots": {"golden_samples"},
    "next_day_proof": {"golden_trades"},
    "regime_comparison": {"golden_trades", "golden_depth", "golden_snapshots"},
    "replay_benchmark": set(),
    "decimal_benchmark": set(),
    "io_benchmark": set(),
    "origin_time_report": {"golden_trades", "golden_depth", "golden_snapshots"},
    "delta_feed_report": {"golden_depth", "golden_snapshots"},
    "go_no_go": {
        "replay_benchmark",
        "origin_time_report",
        "delta_feed_report",
        "decimal_benchmark",
        "io_benchmark",
    },
}
_FEASIBILITY = {
    "go_no_go",
    "replay_benchmark",
    "decimal_benchmark",
    "io_benchmark",
    "origin_time_report",
    "delta_feed_report",
}
_GOLDEN = {"regime_comparison", "next_day_proof"}
GROUPS = {
    name: "feasibility"
    if name in _FEASIBILITY
    else "golden_samples"
    if name.startswith("golden") or name in _GOLDEN
    else "klines"
    for name in UPSTREAM
}


@pytest.fixture
def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def test_the_assets_hang_together_as_drawn(specs: dict[str, dg.AssetSpec]) -> None:
    """The graph contains klines, sessions with their tables and reports, benchmarks and the verdict."""
    assert {
        name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs.items()
    } == UPSTREAM


def test_every_asset_says_what_it_is(specs: dict[str, dg.AssetSpec]) -> None:
    """Group, kinds, owners, description, version, and columns with a type and a description each."""
    for name, spec in specs.items():
        assert spec.group_name == GROUPS[name], name
        assert spec.kinds, name
        assert spec.owners == ["team:market-data"], name
        assert len(spec.description or "") > 20, name
        assert spec.code_version, name
        schema = spec.metadata["dagster/column_schema"]
        assert isinstance(schema, dg.TableSchema), name
        assert all(column.type and column.description for column in schema.columns), name


def test_every_asset_opens_its_source_and_every_table_has_its_name(specs: dict[str, dg.AssetSpec]) -> None:
    """Assets refer to file and line of their function; assets of tables name the view."""
    for name, spec in specs.items():
        (reference,) = spec.metadata["dagster/code_references"].code_references
        assert isinstance(reference, dg.LocalFileCodeReference)
        line = Path(reference.file_path).read_text().splitlines()[(reference.line_number or 0) - 1]
        assert Path(reference.file_path).is_relative_to(ROOT / "capture_pipeline" / "defs"), name
        assert line.startswith(("@dg.", "def ")), (name, line)
    named = {name for name, spec in specs.items() if spec.metadata.get("dagster/table_name") == name}
    assert named == {
        "bars",
        "bar_conflicts",
        "bar_exclusions",
        "bar_gaps",
        "golden_trades",
        "golden_depth",
        "golden_snapshots",
    }


@pytest.mark.parametrize(("end", "expected"), [("", {"0 9 * * *", "30 9 * * *"}), ("2025-03-31", set())])
def test_what_a_schedule_makes_daily_has_a_deadline_unless_the_history_has_ended(
    end: str, expected: set[str]
) -> None:
    """After the deadline Dagster shows the asset as late."""
    definitions = build_definitions(load_settings(NO_SETTINGS, {**QUICK, "CAPTURE_HISTORY_END": end}))
    policies = [spec.freshness_policy for spec in definitions.resolve_all_asset_specs()]
    deadlines = {policy.deadline_cron for policy in policies if isinstance(policy, CronFreshnessPolicy)}
    assert deadlines == expected


def test_every_job_schedule_and_sensor_says_what_it_is_for_and_runs_from_the_start(
    definitions: dg.Definitions,
) -> None:
    """All sensors and schedules except that of planned sessions run by default."""
    repository = definitions.get_repository_def()
    jobs = [job for job in repository.get_all_jobs() if job.name != "__ASSET_JOB"]
    described = {
        entry.name: entry.description
        for group in (jobs, repository.schedule_defs, repository.sensor_defs)
        for entry in group
    }
    assert len(described) == 10 + 3 + 14
    assert {name for name, description in described.items() if len(description or "") < 15} == set()
    assert {str(schedule.default_status.value) for schedule in repository.schedule_defs} == {"RUNNING"}
    stopped = {
        sensor.name
        for sensor in repository.sensor_defs
        if sensor.default_status is not dg.DefaultSensorStatus.RUNNING
    }
    assert stopped == {"session_sensor"}, (
        "a session takes disk and bandwidth for a day: it is started by choice"
    )


def test_partitions_are_months_by_symbol(definitions: dg.Definitions) -> None:
    """The partitions are all months with all symbols; the month comes first in the key."""
    partitions = definitions.resolve_asset_graph().get(dg.AssetKey("bars")).partitions_def
    assert partitions is not None
    wanted = [key(month, symbol) for month in (JANUARY, FEBRUARY, MARCH) for symbol in (BTC, ETH)]
    assert sorted(partitions.get_partition_keys()) == sorted(wanted)


@pytest.mark.parametrize(("start", "end", "last"), [(40, None, 0), (40, -40, 0), (80, 40, 40), (0, None, 0)])
def test_the_open_month_is_a_partition_and_no_later_one(start: int, end: int | None, last: int) -> None:
    """Future months are no partitions, also if the history ends in the future."""
    now = datetime.now(UTC)
    first, final = (
        (now - timedelta(days=start)).date(),
        None if end is None else (now - timedelta(days=end)).date(),
    )
    settings = Settings(history=History(start=first, end=final))
    keys = partitions.build_partitions(settings, time.time_ns() // 1000).get_partition_keys()
    assert keys[0] == f"{first:%Y-%m}|{settings.symbols[0]}"
    assert keys[-1] == f"{now - timedelta(days=last):%Y-%m}|{settings.symbols[-1]}"


def test_jobs_are_their_assets_with_the_checks_on_them(definitions: dg.Definitions) -> None:
    """No job omits a check, and no job has a configuration."""
    selected = {}
    for name in ("initial_backfill", "daily_update", "gap_fill", "month_close", "coverage"):
        job = definitions.resolve_job_def(name)
        selected[name] = {asset.to_user_string() for asset in job.asset_layer.selected_asset_keys}
        checks = {check.asset_key.to_user_string() for check in job.asset_layer.asset_graph.asset_check_keys}
        assert checks == selected[name] & {"bars", "bar_gaps", "coverage_report"}, name
    assert selected == {
        "initial_backfill": set(CHAIN),
        "daily_update": set(CHAIN),
        "gap_fill": set(CHAIN) - {"kline_archives"},
        "month_close": {*CHAIN, "month_reconciliation"},
        "coverage": {"coverage_report"},
    }


def test_a_run_cannot_name_hosts_or_paths(definitions: dg.Definitions) -> None:
    """The resource refuses every configuration."""
    job = definitions.resolve_job_def("month_close")
    dg.validate_run_config(job, {})
    with pytest.raises(dg.DagsterInvalidConfigError, match="sandbox_url"):
        dg.validate_run_config(
            job, {"resources": {"deployment": {"config": {"sandbox_url": "http://example.org"}}}}
        )


def test_pools_guard_the_exchange(definitions: dg.Definitions) -> None:
    """Steps that use the exchange take a slot of a pool; other steps do not."""
    pools = {name: definitions.get_assets_def(name).op.pool for name in UPSTREAM}
    archive = dict.fromkeys(("kline_archives", "next_day_proof"), "binance_archive")
    wanted = {**archive, "kline_topups": "binance_rest", "golden_samples": "recordings"}
    assert pools == {name: wanted.get(name) for name in UPSTREAM}
    revision_watch = definitions.resolve_job_def("revision_watch")
    assert [node.definition.pool for node in revision_watch.nodes] == ["binance_archive"]  # type: ignore[attr-defined]
    home = yaml.safe_load((ROOT / "dagster_home" / "dagster.yaml").read_text())
    assert home["concurrency"]["pools"]["default_limit"] >= 1


def test_definitions_are_as_committed(definitions: dg.Definitions) -> None:
    """UPDATE_SNAPSHOTS=1 writes the file of all assets, checks, jobs, schedules and sensors."""
    now = json.dumps(snapshot(definitions), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        SNAPSHOT.write_text(now, encoding="utf-8")
    committed = SNAPSHOT.read_text(encoding="utf-8")
    difference = difflib.unified_diff(
        committed.splitlines(), now.splitlines(), "committed", "now", lineterm="", n=4
    )
    assert now == committed, "if this is meant, run with UPDATE_SNAPSHOTS=1:\n" + "\n".join(difference)


def _partitions(definition: dg.PartitionsDefinition[Any] | None) -> list[str] | None:
    if isinstance(definition, dg.DynamicPartitionsDefinition):
        return [f"dynamic: {definition.name}"]
    return (
        sorted(part.name for part in definition.partitions_defs)
        if isinstance(definition, dg.MultiPartitionsDefinition)
        else None
    )


def snapshot(definitions: dg.Definitions) -> dict[str, Any]:
    """Return all definitions as plain values."""
    repository = definitions.get_repository_def()
    graph = definitions.resolve_asset_graph()
    return {
        "assets": {
            spec.key.to_user_string(): _asset(definitions, spec)
            for spec in definitions.resolve_all_asset_specs()
        },
        "checks": {
            check.to_user_string(): _check(graph.get_check_spec(check)) for check in graph.asset_check_keys
        },
        "jobs": {job.name: _job(job) for job in repository.get_all_jobs() if job.name != "__ASSET_JOB"},
        "schedules": {
            schedule.name: {
                name: str(getattr(schedule, name))
                for name in ("cron_schedule", "description", "execution_timezone", "job_name")
            }
            for schedule in repository.schedule_defs
        },
        "sensors": {
            sensor.name: {
                "description": sensor.description,
                "kind": sensor.sensor_type.value,
                "every_s": sensor.minimum_interval_seconds,
                "jobs": sorted(target.job_name for target in sensor.targets if target.job_name),
            }
            for sensor in repository.sensor_defs
        },
    }


def _asset(definitions: dg.Definitions, spec: dg.AssetSpec) -> dict[str, Any]:
    assets_def = definitions.get_assets_def(spec.key)
    schema = spec.metadata["dagster/column_schema"]
    policy = assets_def.backfill_policy
    return {
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "owners": list(spec.owners),
        "description": spec.description,
        "code_version": spec.code_version,
        "upstream": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        "columns": [
            f"{column.name}: {column.type}{'?' if column.constraints.nullable else ''}"
            for column in schema.columns
        ],
        "partitions": _partitions(spec.partitions_def),
        "partitions_a_run": policy.max_partitions_per_run if policy else None,
        "automation": spec.automation_condition.get_label() if spec.automation_condition else None,
        "pool": assets_def.op.pool,
    }


def _check(spec: dg.AssetCheckSpec) -> dict[str, Any]:
    return {
        "description": spec.description,
        "blocking": spec.blocking,
        "partitioned": spec.partitions_def is not None,
        "severity": spec.metadata["severity"],
    }


def _job(job: dg.JobDefinition) -> dict[str, Any]:
    return {
        "description": job.description,
        "tags": dict(job.tags),
        "steps": sorted(node.name for node in job.nodes),
    }
