"""Partitions by month and symbol, and the conversion between their keys and partitions of the domain."""

import time
from collections.abc import Mapping, Sequence
from typing import cast

import dagster as dg

from capture_pipeline.binance.periods import Month
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import ConfigError
from capture_pipeline.lake.paths import Partition
from capture_pipeline.settings.models import Settings

MONTH, SYMBOL = "month", "symbol"
PARTITION_TAG = "dagster/partition"
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
PARTITIONS_PER_RUN = 48
"""Four years of one symbol. The start of a run takes as long as 20 partitions
(`benchmarks/bench_backfill.py`), and a run adds about 50 events to those of its partitions."""


class MonthsAndSymbols(dg.MultiPartitionsDefinition):
    """Partitions by month and symbol whose runs have the partition key as their only partition tag.

    In a backfill of a job, Dagster sets the tags of the first partition on each run, next to the range of the
    run. Tags by dimension would override the range, so each run would build only its first partition. Dagster
    omits the tag with the key.
    """

    def get_tags_for_partition_key(self, partition_key: str) -> Mapping[str, str]:
        """Return the tags of a run for a partition."""
        return {PARTITION_TAG: partition_key}


PARTITIONS = MonthsAndSymbols(
    {MONTH: dg.StaticPartitionsDefinition([]), SYMBOL: dg.StaticPartitionsDefinition([])}
)
"""Dimensions of the assets in this folder; `build_definitions` replaces them by `build_partitions`."""
BACKFILL_POLICY = dg.BackfillPolicy.multi_run(PARTITIONS_PER_RUN)


def build_partitions(settings: Settings, now_us: int) -> MonthsAndSymbols:
    """Build the partitions of all symbols and of all months of the configured history up to the present one.

    The lists are static, because `MonthlyPartitionsDefinition` iterates over the calendar for each key that
    it validates. The sensor `new_month` reloads the definitions when a month begins.

    Args:
        settings: Settings of the deployment.
        now_us: The present, microseconds UTC.
    """
    months = [str(month) for month in Deployment(settings).months(now_us)]
    return MonthsAndSymbols(
        {
            MONTH: dg.StaticPartitionsDefinition(months),
            SYMBOL: dg.StaticPartitionsDefinition(settings.symbols),
        }
    )


def loaded_partitions(
    context: dg.SensorEvaluationContext | dg.ScheduleEvaluationContext,
) -> MonthsAndSymbols:
    """Return the partitions of the loaded definitions; a month that began since is not among them."""
    graph = cast("dg.RepositoryDefinition", context.repository_def).asset_graph
    return cast("MonthsAndSymbols", graph.get(dg.AssetKey("bars")).partitions_def)


def key_of(partition: Partition) -> dg.MultiPartitionKey:
    """Return the key of a partition, for instance `2024-12|BTCUSDT`."""
    return dg.MultiPartitionKey({MONTH: str(partition.month), SYMBOL: partition.symbol})


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse a run whose tags name both a range of partitions and a single partition.

    Dagster would build the single partition and report the whole range.

    Args:
        tags: Tags of the run.

    Raises:
        ConfigError: The tags name a range of several partitions and a single partition.
    """
    single = [name for name in tags if name.startswith(f"{PARTITION_TAG}/")]
    if RANGE_TAGS[0] in tags and single and tags[RANGE_TAGS[0]] != tags.get(RANGE_TAGS[1]):
        what = (
            f"the run is for the partitions {tags[RANGE_TAGS[0]]} to {tags.get(RANGE_TAGS[1])}, "
            f"but its tag {single[0]} names one of them"
        )
        raise ConfigError(what, remedy="launch it as a backfill of the assets")


def keys_of_run(partitions: MonthsAndSymbols, tags: Mapping[str, str]) -> Sequence[str]:
    """Return the partition keys of a run by its tags; empty if they name a partition that does not exist."""
    ends = [tags.get(name, tags.get(PARTITION_TAG, "")) for name in RANGE_TAGS]
    if not all(map(partitions.has_partition_key, ends)):
        return []
    return partitions.get_partition_keys_in_range(dg.PartitionKeyRange(*ends))


def partitions_of(deployment: Deployment, keys: Sequence[str]) -> list[Partition]:
    """Return the partitions of keys.

    Raises:
        ConfigError: A key is not a partition of this deployment.
    """
    known = build_partitions(deployment.settings, time.time_ns() // 1000)
    found = []
    for key in keys:
        if not known.has_partition_key(key):
            raise ConfigError(
                f"{key!r} is not a partition of this deployment",
                remedy="choose one that the launchpad offers",
            )
        month, symbol = key.split("|")
        found.append(deployment.partition(symbol, Month.parse(month)))
    return found


def block_tags(symbols: Sequence[str], first: Month, last: Month) -> dict[str, str]:
    """Return the tags of a run for all symbols of the months from `first` to `last`.

    In Dagster, a range over two dimensions is the product of the ranges of both dimensions.
    """
    return dict(zip(RANGE_TAGS, (f"{first}|{symbols[0]}", f"{last}|{symbols[-1]}"), strict=True))
