"""When a derived asset is made without anybody asking: its input changed, and what guards that input holds.

A partition whose run ended early goes on by itself from here: the others of its run are not held up by it. A step that failed is not
asked for again until its input changes, so nothing loops.
"""

import dagster as dg

_Condition = dg.AutomationCondition

_UPDATED = _Condition.any_deps_match(_Condition.newly_updated())
"""Not `any_deps_updated`, which leaves out an update by a run that was also to make the asset itself and failed before it did."""
_INPUT_UPDATED = _UPDATED.since(_Condition.newly_updated()) & _UPDATED.since(_Condition.newly_requested())
"""Updated after the asset was made, and after it was asked for. Not `since_last_handled`: where the input and the asset were both updated
between two ticks, it takes the asset for the newer one. Each `since` here has one event on either side, and compares their times."""
_SETTLED = ~_Condition.any_deps_match(_Condition.newly_updated())
"""No input was updated since the last tick. `lake_arrivals` reports a partition event by event, and a tick may fall between two of them:
one tick later what was made from the input is reported too. A report over the whole lake is made once after many such events."""
_IDLE = ~_Condition.in_progress() & ~(~_Condition.in_progress()).newly_true()
"""Neither at this tick nor at the one before. A tick counts the events up to its beginning, and reads a moment later what is in progress:
what a run made in between is not counted yet, and the run is over. The next tick counts it."""
_WAITS = _INPUT_UPDATED & _SETTLED & _IDLE & ~_Condition.any_deps_in_progress()
AFTER_INPUT = (
    _WAITS & ~_Condition.any_deps_missing() & _Condition.all_deps_blocking_checks_passed()
).with_label("after its input, once the blocking checks passed")
"""For partitions of any month, not the latest alone."""

AFTER_UPSTREAM_IDLE = _WAITS.with_label("after its input, once no partition is being made")
"""For reports over the whole lake: once at the end of a backfill, and also where some partition is missing or bad, which it is to show."""

automation = dg.AutomationConditionSensorDefinition(
    "automation",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Materializes a derived asset when its input has changed and the blocking checks of the input passed.",
)
