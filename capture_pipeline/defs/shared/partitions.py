"""Month × symbol: the one partitioning of the project, and the way between its keys and the domain's partitions.

The settings are read here, once, because partitions are part of a definition. Nothing else in `defs` reads them from a file.
"""

import time
from collections.abc import Mapping, Sequence

import dagster as dg

from capture_pipeline.binance.periods import Month
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import ConfigError
from capture_pipeline.lake.paths import Partition
from capture_pipeline.settings.loader import load_settings
from capture_pipeline.settings.models import Settings

SETTINGS = load_settings()

MONTH, SYMBOL = "month", "symbol"
PARTITION_TAG = "dagster/partition"
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
PARTITIONS_PER_RUN = 48
"""Four years of one symbol. The start of a run takes as long as 20 partitions (`benchmarks/bench_backfill.py`), and each run has about 50
events of its own."""


def months(settings: Settings, now_us: int) -> dg.StaticPartitionsDefinition:
    """The months of the configured history that have begun; the open one is a partition too.

    A fixed list, because Dagster walks the calendar for each key of `MonthlyPartitionsDefinition` that it validates. `new_month` sees to a
    month that begins later.

    Args:
        settings: Of the deployment.
        now_us: The present.
    """
    return dg.StaticPartitionsDefinition([str(month) for month in Workspace(settings).months(now_us)])


class MonthsAndSymbols(dg.MultiPartitionsDefinition):
    """Month × symbol, where a run of one partition is tagged by the partition's key alone.

    Dagster gives each run of a job's backfill the tags of the first partition, besides the range of the run. Tags by dimension would win
    over the range, and each run would make its first partition only; the tag of the key is left out by Dagster itself.
    """

    def get_tags_for_partition_key(self, partition_key: str) -> Mapping[str, str]:
        """Return the run tags of one partition."""
        return {PARTITION_TAG: partition_key}


MONTHS = months(SETTINGS, time.time_ns() // 1000)
PARTITIONS = MonthsAndSymbols({MONTH: MONTHS, SYMBOL: dg.StaticPartitionsDefinition(SETTINGS.symbols)})
BACKFILL_POLICY = dg.BackfillPolicy.multi_run(PARTITIONS_PER_RUN)


def key_of(partition: Partition) -> dg.MultiPartitionKey:
    """The key of a partition, for instance `2024-12|BTCUSDT`."""
    return dg.MultiPartitionKey({MONTH: str(partition.month), SYMBOL: partition.symbol})


def partition_of(workspace: Workspace, key: str) -> Partition:
    """The partition that a key names.

    Raises:
        ConfigError: The key is not of this deployment.
    """
    if not PARTITIONS.has_partition_key(key):
        raise ConfigError(
            f"{key!r} is no partition of this deployment", remedy="choose one that the launchpad offers"
        )
    month, symbol = key.split("|")
    return workspace.partition(symbol, Month.parse(month))


def check_tags(tags: Mapping[str, str]) -> None:
    """Refuse a run whose tags name a range of partitions and one partition too: Dagster would make that one and report the range.

    Args:
        tags: Of the run.

    Raises:
        ConfigError: They name both.
    """
    single = [name for name in tags if name.startswith(f"{PARTITION_TAG}/")]
    if RANGE_TAGS[0] in tags and single and tags[RANGE_TAGS[0]] != tags.get(RANGE_TAGS[1]):
        what = f"the run is for the partitions {tags[RANGE_TAGS[0]]} to {tags.get(RANGE_TAGS[1])}, and its tag {single[0]} names one of them"
        raise ConfigError(what, remedy="launch it as a backfill of the assets")


def keys_of_run(tags: Mapping[str, str]) -> Sequence[str]:
    """The keys of the partitions that a run makes, by its tags; those that are no longer partitions are left out."""
    ends = [tags.get(name, tags.get(PARTITION_TAG, "")) for name in RANGE_TAGS]
    if not all(map(PARTITIONS.has_partition_key, ends)):
        return []
    return PARTITIONS.get_partition_keys_in_range(dg.PartitionKeyRange(*ends))


def partitions_of(workspace: Workspace, keys: Sequence[str]) -> list[Partition]:
    """The partitions of a run."""
    return [partition_of(workspace, key) for key in keys]


def block_tags(first: Month, last: Month) -> dict[str, str]:
    """Run tags that make one run hold all symbols of the months from `first` to `last`.

    A range over two dimensions is the product of their ranges, so a block is all that can be said in this way.
    """
    symbols = SETTINGS.symbols
    return dict(zip(RANGE_TAGS, (f"{first}|{symbols[0]}", f"{last}|{symbols[-1]}"), strict=True))
