"""Policies of assets: the condition after which an asset is built, and the time by which it must be built.

Conditions apply to each partition, so a partition does not wait for the others of its run. A failed step is
not requested again until its input changes; therefore no endless loop is possible.
Deadlines do not apply to a deployment with `history.end`, which needs no updates: `build_definitions` removes
them. The age of the newest bar is checked by the gate `freshness`.
"""

from datetime import timedelta

import dagster as dg

_Condition = dg.AutomationCondition

_UPDATED = _Condition.any_deps_match(_Condition.newly_updated())
"""An input was updated. `any_deps_updated` is not used: it ignores the update of a run that should also have
built the asset, but failed before."""
_INPUT_UPDATED = _UPDATED.since(_Condition.newly_updated()) & _UPDATED.since(_Condition.newly_requested())
"""An input was updated after the asset was built and after it was requested. `since_last_handled` is not
used: if the input and the asset were updated between two ticks, it treats the asset as the newer one. Each
`since` here compares the times of two events."""
_SETTLED = ~_Condition.any_deps_match(_Condition.newly_updated())
"""No input was updated since the last tick. `lake_arrivals` reports the assets of a partition one by one, and
a tick may fall between two of them; at the next tick the derived assets are reported too. After many such
events a report over the whole lake is built once."""
_IDLE = ~_Condition.in_progress() & ~(~_Condition.in_progress()).newly_true()
"""The asset is in progress neither at this tick nor at the one before. A tick reads the events first and the
runs in progress later. An asset that a run built in between is not among the events yet although its run is
over; the next tick sees it."""
_WAITS = _INPUT_UPDATED & _SETTLED & _IDLE & ~_Condition.any_deps_in_progress()
AFTER_INPUT = (
    _WAITS & ~_Condition.any_deps_missing() & _Condition.all_deps_blocking_checks_passed()
).with_label("after its input, once the blocking checks passed")
"""Condition of partitioned assets; it applies to all partitions, not only to the latest."""

AFTER_UPSTREAM_IDLE = _WAITS.with_label("after its input, once no partition is being made")
"""Condition of reports over the whole lake. A report is built once at the end of a backfill, also if
partitions are missing or bad, because it shows these."""

BY_THE_UPDATE = dg.FreshnessPolicy.cron(
    deadline_cron="0 9 * * *", lower_bound_delta=timedelta(hours=3), timezone="UTC"
)
"""Policy of assets of the daily update, which begins at 06:30."""
BY_THE_REPORT = dg.FreshnessPolicy.cron(
    deadline_cron="30 9 * * *", lower_bound_delta=timedelta(hours=2), timezone="UTC"
)
"""Policy of the coverage report, which is built at 08:00."""

automation = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Materializes a derived asset after its input changed and the blocking checks of the input "
    "passed.",
)
