"""Entry point for Dagster: all definitions below `defs`, configured by the settings of a deployment.

No asset, job or sensor is defined here. A wrong setting raises a `ConfigError` of one line.
"""

import time
import warnings

import dagster as dg

from capture_pipeline import defs as folder
from capture_pipeline.collector import pause_collector
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.settings.models import Settings


def build_definitions(settings: Settings) -> dg.Definitions:
    """Build the definitions of a deployment, with the months of its history up to the present one.

    All steps of a run share one process. Steps wait for the network or the disk, and starting a process takes
    longer than most steps. Each run loads the definitions, so their modules are imported here.

    Args:
        settings: Settings of the deployment. They set partitions, owners and deadlines of the assets.
    """
    with pause_collector():
        return _build(settings)


def _build(settings: Settings) -> dg.Definitions:
    from capture_pipeline.defs.klines.checks import build_checks  # noqa: PLC0415 - the collector is paused
    from capture_pipeline.defs.shared.partitions import (  # noqa: PLC0415 - the same
        MonthsAndSymbols,
        build_partitions,
    )
    from capture_pipeline.defs.shared.resources import build_resource  # noqa: PLC0415 - the same

    partitions = build_partitions(settings, time.time_ns() // 1000)

    def configure(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(
            owners=settings.owners,
            partitions_def=partitions
            if isinstance(spec.partitions_def, MonthsAndSymbols)
            else spec.partitions_def,
            # A history that has ended needs no updates.
            freshness_policy=None if settings.history.end else spec.freshness_policy,
        )

    with warnings.catch_warnings():
        # The version of Dagster is pinned, and tests cover its preview and beta features that are used here:
        # loading a folder, backfill policies and partitioned checks.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        loaded = dg.load_definitions_from_package_module(folder)
        definitions = dg.Definitions(
            assets=dg.with_source_code_references(list(loaded.assets or ())),
            asset_checks=[*(loaded.asset_checks or ()), *build_checks(partitions)],
            jobs=loaded.jobs,
            schedules=loaded.schedules,
            sensors=loaded.sensors,
            resources={"deployment": build_resource(settings)},
            executor=dg.in_process_executor,
        ).map_asset_specs(func=configure)
        # Resolve references now: a wrong one is reported at load time, and warnings are suppressed.
        definitions.get_repository_def()
    return definitions


@dg.definitions
def defs() -> dg.Definitions:
    """Build the definitions of the deployment that `pipeline.yaml` and the environment describe."""
    return build_definitions(load_settings())
