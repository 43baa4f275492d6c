"""The resource `deployment`: settings, lake and exchange clients of the deployment.

The resource has no configuration schema: a user could otherwise set other hosts and paths in the launchpad.
The process of a run that uses the deployment has the lock of the run, from which the reaper knows that the
process is alive. A lock is more reliable than a process id, which can be reused, or a heartbeat, which needs
a time-out.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.lake.locks import file_lock
from capture_pipeline.settings.models import Settings

_LOCK_TIMEOUT_S = 2.0
"""The reaper takes the lock for an instant."""


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
        with run_lock(run_lock_path(deployment, context.run.run_id)):
            yield deployment

    return deployment


def run_lock_path(deployment: Deployment, run_id: str) -> Path:
    """Return the path of a run's lock file."""
    return deployment.lake.state("runs") / f"{run_id}.lock"


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Lock a run inside the `with` block; its file is removed before the lock is released."""
    with file_lock(path, _LOCK_TIMEOUT_S):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def with_short_timeouts(deployment: Deployment) -> Deployment:
    """Return the deployment with one attempt per request and short time-outs, for sensors and schedules."""
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
