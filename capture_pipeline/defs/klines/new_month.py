"""Sensor that reloads the definitions when a month begins, so that the month has partitions."""

import time

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin

from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.partitions import loaded_partitions
from capture_pipeline.deployment.deployment import Workspace


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reloads the definitions when a month has begun, so that the new month is a partition. "
    "Starts no run.",
)
def new_month(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.SkipReason:
    """Reload the code server if the present month is missing in the definitions."""
    loaded, symbol = loaded_partitions(context), workspace.settings.symbols[0]
    missing = [
        month
        for month in workspace.months(time.time_ns() // 1000)
        if not loaded.has_partition_key(f"{month}|{symbol}")
    ]
    if not missing:
        return outputs.skip("every month up to the present is a partition")
    origin = context.code_location_origin
    if not isinstance(origin, GrpcServerCodeLocationOrigin):
        remedy = "the daemon reloads the definitions itself; reload the code location in the UI"
        return outputs.skip(f"{missing[-1]} has begun: {remedy}")
    try:
        # The call returns after the new definitions are loaded. Running runs continue in their own processes.
        origin.create_client().reload_code(timeout=context.instance.code_server_reload_timeout)
    except DagsterUserCodeUnreachableError as error:
        problem = f"the code server did not reload the definitions: {error}"
        return outputs.skip(f"{missing[-1]} has begun, but {problem}; the next tick retries")
    return outputs.skip(f"{missing[-1]} has begun: the code server has reloaded the definitions")
