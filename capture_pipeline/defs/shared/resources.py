"""The resource `deployment`: settings, lake and exchange clients of the deployment.

The resource has no configuration schema: a user could otherwise set other hosts and paths in the launchpad.
While a run uses the deployment, it also holds its run lock (see `run_lock`), from which the reaper knows that
its process is alive.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from capture_pipeline.defs.shared.run_lock import hold_run_lock
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.settings.models import Settings


def build_resource(settings: Settings) -> dg.ResourceDefinition:
    """Build the resource of a deployment from its settings."""

    @dg.resource(
        config_schema={},
        description="Settings, lake and exchange of the deployment. A run cannot configure it.",
    )
    def deployment(context: dg.InitResourceContext) -> Iterator[Deployment]:
        deployment = Deployment(settings)
        if context.run is None:
            yield deployment
            return
        with hold_run_lock(run_lock_path(deployment, context.run.run_id)):
            yield deployment

    return deployment


def run_lock_path(deployment: Deployment, run_id: str) -> Path:
    """Return the path of a run's lock file; the process of the run holds its lock."""
    return deployment.lake.state("runs") / f"{run_id}.lock"


def with_short_timeouts(deployment: Deployment) -> Deployment:
    """Return the deployment with one attempt a request and short time-outs, for sensors and schedules."""
    http = deployment.settings.http.model_copy(
        update={
            "attempts": 1,
            "connect_timeout_s": 5.0,
            "read_timeout_s": 10.0,
            "answer_timeout_s": 20.0,
            "total_timeout_s": 20.0,
        }
    )
    limits = deployment.settings.rate_limits.model_copy(update={"max_wait_s": 0.0})
    return Deployment(deployment.settings.model_copy(update={"http": http, "rate_limits": limits}))
