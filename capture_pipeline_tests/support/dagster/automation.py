"""Ticks of the declarative automation."""

import functools
from dataclasses import dataclass
from typing import Any
from unittest import mock

import dagster as dg

NOTHING: dict[str, set[str | None]] = {}


def evaluate_conditions(
    definitions: dg.Definitions, instance: dg.DagsterInstance, cursor: Any = None
) -> dg.EvaluateAutomationConditionsResult:
    """Evaluate the conditions of all assets once.

    Dagster reads the keys of the sessions about 600 times a tick. They do not change within a tick, so they
    are read once.
    """
    read_keys = functools.cache(instance.get_dynamic_partitions)
    with mock.patch.object(instance, "get_dynamic_partitions", read_keys):
        return dg.evaluate_automation_conditions(definitions, instance, cursor=cursor)


@dataclass
class Automation:
    """Ticks of the automation.

    Attributes:
        definitions: Definitions of the project.
        instance: Instance with the events that the ticks read.
        cursor: Cursor after the last tick.
    """

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    cursor: Any = None

    def tick(self) -> dict[str, set[str | None]]:
        """Return the requests after an update, of the second tick that sees it or of the first."""
        first, second = self.evaluate(), self.evaluate()
        assert not first.keys() & second.keys()
        return first | second

    def evaluate(self) -> dict[str, set[str | None]]:
        """Return the partitions that one tick requests, by asset; None for an unpartitioned asset."""
        result = evaluate_conditions(self.definitions, self.instance, self.cursor)
        self.cursor = result.cursor
        requested: dict[str, set[str | None]] = {}
        for entry in result.results:
            if not entry.true_subset.is_empty:
                keys = {
                    item.partition_key for item in entry.true_subset.expensively_compute_asset_partitions()
                }
                requested[entry.key.to_user_string()] = keys
        return requested
