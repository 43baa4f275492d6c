"""Sensor that reports benchmarks measured outside Dagster as materializations without a run."""

import time

import dagster as dg

from capture_pipeline.defs.feasibility.decimals import DECIMALS
from capture_pipeline.defs.feasibility.io import DISK_RATES
from capture_pipeline.defs.feasibility.replay import REPLAY
from capture_pipeline.defs.shared import outputs
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError

_SETTLED_US = 30_000_000
"""A run of Dagster reports its evidence within this time after the publication."""


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Every minute: reports benchmarks that were measured outside Dagster, for instance by "
    "`capture demo`: materializations with their metadata, and the evaluations of their checks. Starts no "
    "run.",
)
def evidence_arrivals(
    context: dg.SensorEvaluationContext, deployment: dg.ResourceParam[Deployment]
) -> dg.SkipReason:
    """Report each benchmark whose evidence is newer than its materialization."""
    settled_us = time.time_ns() // 1000 - _SETTLED_US
    reported = []
    for measured in (DECIMALS, DISK_RATES, REPLAY):
        try:
            if measured.report(context.instance, deployment.lake, settled_us):
                reported.append(measured.name)
        except CaptureError as error:
            outputs.log_warning(context, f"{measured.name} is not reported: {error}")
    return outputs.skip(
        f"reported: {', '.join(reported)}"
        if reported
        else "no benchmark was measured outside Dagster since the last tick"
    )
