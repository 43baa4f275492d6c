"""The one resource, `workspace`: settings, lake and exchange. It takes no configuration.

Hosts, paths and commands are the deployment's and never a run's: a resource with a configuration schema could be given others in the
launchpad. While a run holds the workspace it also holds its sign of life, see `liveness.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from capture_pipeline.defs.shared.partitions import SETTINGS
from capture_pipeline.defs.shared.run_lock import hold_run_lock
from capture_pipeline.deployment.deployment import Workspace


@dg.resource(
    config_schema={}, description="Settings, lake and exchange of the deployment. A run cannot configure it."
)
def workspace(context: dg.InitResourceContext) -> Iterator[Workspace]:
    """The deployment's workspace, with a sign of life for the run that uses it."""
    deployment = Workspace(SETTINGS)
    if context.run is None:
        yield deployment
        return
    with hold_run_lock(run_lock_path(deployment, context.run.run_id)):
        yield deployment


def run_lock_path(deployment: Workspace, run_id: str) -> Path:
    """The file whose lock says that a run's process is alive."""
    return deployment.lake.state("runs") / f"{run_id}.lock"


def with_short_timeouts(deployment: Workspace) -> Workspace:
    """The same deployment for sensors and schedules, which have to answer within seconds: one try, short time-outs."""
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
    return Workspace(deployment.settings.model_copy(update={"http": http, "rate_limits": limits}))
