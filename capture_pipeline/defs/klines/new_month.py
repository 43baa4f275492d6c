"""The month that begins while a code server runs: the definitions are loaded again, and then have its partitions."""

import time

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin

from capture_pipeline.defs.shared import outputs
from capture_pipeline.defs.shared.partitions import MONTHS, SETTINGS, months


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reloads the definitions when a month has begun, so that the new month is a partition. Starts no run.",
)
def new_month(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Compare the months of the definitions with the present; start no run."""
    loaded = MONTHS.get_partition_keys()
    begun = [
        month
        for month in months(SETTINGS, time.time_ns() // 1000).get_partition_keys()
        if month not in loaded
    ]
    if not begun:
        return outputs.skip("every month that has begun is a partition")
    origin = context.code_location_origin
    if not isinstance(origin, GrpcServerCodeLocationOrigin):
        return outputs.skip(
            f"{begun[-1]} has begun: the daemon loads the definitions again by itself; reload the location in the UI"
        )
    try:
        # Answers once the new definitions are loaded. Runs of the old ones go on in their own processes.
        origin.create_client().reload_code(timeout=context.instance.code_server_reload_timeout)
    except DagsterUserCodeUnreachableError as error:
        return outputs.skip(
            f"{begun[-1]} has begun, and the code server did not load the definitions again: {error}; tried again"
        )
    return outputs.skip(f"{begun[-1]} has begun: the code server has loaded the definitions again")
