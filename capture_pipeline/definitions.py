"""Entry point for Dagster: loads all definitions below `defs` and gives every asset the configured owners.

No asset, job or sensor is defined here. A wrong setting raises a `ConfigError` of one line.
"""

import warnings

import dagster as dg

from capture_pipeline import defs as folder
from capture_pipeline.defs.shared.partitions import SETTINGS
from capture_pipeline.defs.shared.resources import deployment


def _add_owners(spec: dg.AssetSpec) -> dg.AssetSpec:
    return spec.replace_attributes(owners=SETTINGS.owners)


def _load() -> dg.Definitions:
    """Load the definitions below `defs`.

    All steps of a run share one process. Steps wait for the network or the disk, and starting a process takes
    longer than most steps.
    """
    loaded = dg.load_definitions_from_package_module(
        folder, resources={"deployment": deployment}, executor=dg.in_process_executor
    )
    with_sources = dg.Definitions(
        assets=dg.with_source_code_references(list(loaded.assets or ())),
        asset_checks=loaded.asset_checks,
        jobs=loaded.jobs,
        schedules=loaded.schedules,
        sensors=loaded.sensors,
        resources=loaded.resources,
        executor=loaded.executor,
    )
    definitions = with_sources.map_asset_specs(func=_add_owners)
    # Resolve references now: a wrong one is reported at load time, and the warnings below are suppressed.
    definitions.get_repository_def()
    return definitions


with warnings.catch_warnings():
    # The version of Dagster is pinned, and tests cover its preview and beta features that are used here:
    # loading a folder, backfill policies and partitioned checks.
    warnings.simplefilter("ignore", dg.PreviewWarning)
    warnings.simplefilter("ignore", dg.BetaWarning)
    defs = _load()
