"""Helpers for tests of the definitions: run jobs in this process, and read what Dagster recorded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import dagster as dg

from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline_tests.support.deployment import SandboxDeployment

JANUARY, FEBRUARY, MARCH = "2024-01", "2024-02", "2024-03"
BTC, ETH = "BTCUSDT", "ETHUSDT"
QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
CHAIN = ("kline_archives", "kline_topups", "bars", "bar_conflicts", "bar_exclusions", "bar_gaps")


def key(month: str, symbol: str) -> str:
    return f"{month}|{symbol}"


def block(first: str, last: str, last_symbol: str = ETH) -> dict[str, str]:
    """Return the run tags of both symbols (or only the first) for the months from `first` to `last`."""
    return {
        "dagster/asset_partition_range_start": key(first, BTC),
        "dagster/asset_partition_range_end": key(last, last_symbol),
    }


@dataclass(frozen=True)
class TickResult:
    """The result of a tick of a sensor.

    Attributes:
        runs: Run requests.
        reason: Reason to skip; empty with run requests.
    """

    runs: list[dg.RunRequest]
    reason: str

    @property
    def keys(self) -> list[str]:
        """The partition keys of the requests, sorted."""
        return sorted(run.partition_key or "" for run in self.runs)


@dataclass
class Stage:
    """Definitions, deployment and instance of a test.

    Attributes:
        definitions: Definitions of the project.
        sandbox: Lake, and controls of the exchange.
        instance: Dagster instance.
        cursors: Cursor by name of the sensor.
    """

    definitions: dg.Definitions
    sandbox: SandboxDeployment
    instance: dg.DagsterInstance
    cursors: dict[str, str | None] = field(default_factory=dict)

    @property
    def deployment(self) -> Deployment:
        return self.sandbox.deployment

    def run(
        self, job: str, partition: str | None = None, tags: Mapping[str, str] | None = None
    ) -> dg.ExecuteInProcessResult:
        """Run a job for one partition, or for the partitions of the tags."""
        job_def = self.definitions.resolve_job_def(job)
        return job_def.execute_in_process(
            run_config=QUIET,
            instance=self.instance,
            partition_key=partition,
            tags=tags,
            resources={"deployment": self.deployment},
            raise_on_error=False,
        )

    def materialize(
        self,
        assets: Iterable[str],
        partition: str | None = None,
        tags: Mapping[str, str] | None = None,
        *,
        with_checks: bool = True,
        checks: str | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialize assets with or without their checks, and run the checks of one more asset."""
        wanted: dg.AssetSelection = dg.AssetSelection.assets(*assets)
        wanted = wanted if with_checks else wanted.without_checks()
        return dg.materialize(
            [*(self.definitions.assets or []), *(self.definitions.asset_checks or [])],  # type: ignore[list-item]
            selection=wanted | dg.AssetSelection.checks_for_assets(checks) if checks else wanted,
            run_config=QUIET,
            instance=self.instance,
            partition_key=partition,
            tags=tags,
            resources={"deployment": self.deployment},
            raise_on_error=False,
        )

    def tick(self, sensor: str) -> TickResult:
        """Evaluate a sensor once, with the cursor of its last tick."""
        sensor_def = self.definitions.resolve_sensor_def(sensor)
        resources = {"deployment": self.deployment} if sensor_def.required_resource_keys else None
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursors.get(sensor),
            resources=resources,
            definitions=self.definitions,
        )
        result = sensor_def(context)
        if isinstance(result, dg.SkipReason):
            return TickResult([], result.skip_message or "")
        if isinstance(result, dg.RunRequest):
            return TickResult([result], "")
        assert isinstance(result, dg.SensorResult)
        self.cursors[sensor] = result.cursor
        return TickResult(
            list(result.run_requests or []),
            result.skip_reason.skip_message or "" if result.skip_reason else "",
        )

    def materializations(self, asset: str) -> dict[str | None, dg.AssetMaterialization]:
        """Return the newest materialization of an asset by partition."""
        records = self.instance.fetch_materializations(dg.AssetKey(asset), limit=1000, ascending=True).records
        return {
            record.partition_key: materialization
            for record in records
            if (materialization := record.asset_materialization)
        }
