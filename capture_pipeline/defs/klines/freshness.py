"""Freshness policies: the time of the day by which an asset must be materialized.

`build_definitions` removes them in a deployment with `history.end`, which needs no updates. The age of the newest bar is
checked by the gate `freshness`.
"""

from datetime import timedelta

import dagster as dg

BY_THE_UPDATE = dg.FreshnessPolicy.cron(
    deadline_cron="0 9 * * *", lower_bound_delta=timedelta(hours=3), timezone="UTC"
)
"""Policy of assets of the daily update, which begins at 06:30."""
BY_THE_REPORT = dg.FreshnessPolicy.cron(
    deadline_cron="30 9 * * *", lower_bound_delta=timedelta(hours=2), timezone="UTC"
)
"""Policy of the coverage report, which is built at 08:00."""
