"""The one entry that Dagster loads: everything below `defs`, with one policy applied to all of it.

No asset, job or sensor is defined here. A wrong setting shows as its one line.
"""

import warnings

import dagster as dg

from capture_pipeline import defs as folder
from capture_pipeline.defs.shared.partitions import SETTINGS
from capture_pipeline.defs.shared.resources import workspace


def _policy(spec: dg.AssetSpec) -> dg.AssetSpec:
    """What holds for every asset."""
    return spec.replace_attributes(owners=SETTINGS.owners)


def _load() -> dg.Definitions:
    """Everything below `defs`.

    One process a run: what a step of this project waits for is the network or the disk, and a cold process costs more than most steps.
    """
    loaded = dg.load_definitions_from_package_module(
        folder, resources={"workspace": workspace}, executor=dg.in_process_executor
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
    made = with_sources.map_asset_specs(func=_policy)
    # Resolved here and not at first use: a wrong reference is told at once, and its warnings are those that are silenced below.
    made.get_repository_def()
    return made


with warnings.catch_warnings():
    # The version is pinned, and the tests guard what is preview or beta in it: loading a folder, backfill policies, partitioned checks.
    warnings.simplefilter("ignore", dg.PreviewWarning)
    warnings.simplefilter("ignore", dg.BetaWarning)
    defs = _load()
