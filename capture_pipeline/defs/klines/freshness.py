"""Freshness policies: the time of the day by which an asset must be materialized.

They do not apply to a deployment with `history.end`, which needs no updates. The age of the newest bar is
checked by the gate `freshness`.
"""

from datetime import timedelta

import dagster as dg

from capture_pipeline.defs.shared.partitions import SETTINGS


def _daily(deadline: str, earliest: timedelta) -> dg.FreshnessPolicy | None:
    """Build the policy of an asset that a schedule materializes each day.

    Args:
        deadline: Deadline as a cron expression, UTC.
        earliest: Time before the deadline from which a materialization counts.
    """
    if SETTINGS.history.end is not None:
        return None
    return dg.FreshnessPolicy.cron(deadline_cron=deadline, lower_bound_delta=earliest, timezone="UTC")


BY_THE_UPDATE = _daily("0 9 * * *", timedelta(hours=3))
"""Policy of assets of the daily update, which begins at 06:30."""
BY_THE_REPORT = _daily("30 9 * * *", timedelta(hours=2))
"""Policy of the coverage report, which is built at 08:00."""
