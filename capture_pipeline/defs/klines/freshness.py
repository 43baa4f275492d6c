"""By when an asset is made each day, as Dagster's freshness policies; how old its newest bar may be is the gate `freshness`.

A history that has ended needs no update, and has no policy.
"""

from datetime import timedelta

import dagster as dg

from capture_pipeline.defs.shared.partitions import SETTINGS


def _daily(deadline: str, earliest: timedelta) -> dg.FreshnessPolicy | None:
    """Build the policy of an asset that a schedule makes each day.

    Args:
        deadline: As cron, UTC.
        earliest: How long before the deadline it may be made at the earliest.
    """
    if SETTINGS.history.end is not None:
        return None
    return dg.FreshnessPolicy.cron(deadline_cron=deadline, lower_bound_delta=earliest, timezone="UTC")


BY_THE_UPDATE = _daily("0 9 * * *", timedelta(hours=3))
"""The daily update begins at 06:30."""
BY_THE_REPORT = _daily("30 9 * * *", timedelta(hours=2))
"""The report is made at 08:00."""
