"""Results of a partition, read from the lake. Nothing is requested and nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import polars as pl

from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.bars import BarsResult, count_values, read_raw_digests
from capture_pipeline.klines.gaps import GapsResult
from capture_pipeline.klines.ingest.archives import ArchivesResult
from capture_pipeline.klines.ingest.rest_fill import TopupResult, build_topup_result, find_ranges_to_request
from capture_pipeline.klines.ingest.trading_period import load_trading_period
from capture_pipeline.klines.quality.ranges import sum_lengths
from capture_pipeline.lake.files import read_model, sha256_file
from capture_pipeline.lake.manifests import ArchivesManifest, TopupsManifest
from capture_pipeline.lake.parquet import read_table
from capture_pipeline.lake.paths import Lake, Partition
from capture_pipeline.tables.klines.bars import SOURCES
from capture_pipeline.tables.klines.exclusions import Exclusion


@dataclass(frozen=True)
class ChangeTimes:
    """Times of the last change of a partition's files, ns of the file system's clock; 0 for a missing file.

    Attributes:
        raw_ns: Manifests of the raw files.
        bars_ns: Bars.
        gaps_ns: Gap ledger.
        reconciliation_ns: Comparison of the sources.
    """

    raw_ns: int
    bars_ns: int
    gaps_ns: int
    reconciliation_ns: int

    @property
    def newest_ns(self) -> int:
        """Time of the last change of any file."""
        return max(self.raw_ns, self.bars_ns, self.gaps_ns, self.reconciliation_ns)

    @property
    def is_reconciled(self) -> bool:
        """Report whether the comparison of the sources is newer than the bars."""
        return 0 < self.bars_ns <= self.reconciliation_ns

    @property
    def up_to_date_ns(self) -> Sequence[int]:
        """Times of raw files, bars and gap ledger, in this order, until one is older than its input."""
        ordered = [self.raw_ns, self.bars_ns, self.gaps_ns]
        pairs = takewhile(
            lambda pair: pair[1] and pair[1] >= pair[0], zip([0, *ordered], ordered, strict=False)
        )
        return [stamp for _, stamp in pairs]

    @property
    def is_complete(self) -> bool:
        """Report whether the bars are as new as the raw files, and the gap ledger is as new as the bars."""
        return len(self.up_to_date_ns) == 3  # noqa: PLR2004 - raw files, bars, gaps


def read_change_times(lake: Lake, partition: Partition) -> ChangeTimes:
    """Read the times of change of a partition's files.

    `st_ctime` is used, because a file that is restored from a backup keeps its `st_mtime`.
    """
    manifests = max(
        _read_change_ns(lake.archives_manifest(partition)), _read_change_ns(lake.topups_manifest(partition))
    )
    derived = lake.bars(partition), lake.window(partition), lake.reconciliation(partition)
    return ChangeTimes(manifests, *map(_read_change_ns, derived))


def _read_change_ns(path: Path) -> int:
    try:
        return path.stat().st_ctime_ns
    except FileNotFoundError:
        return 0


def load_archives_result(deployment: Deployment, partition: Partition) -> ArchivesResult:
    """Load the archive files of a partition, with an empty list of new downloads.

    Raises:
        LakeError: The manifest is damaged.
    """
    return ArchivesResult(
        partition,
        read_model(deployment.lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest(),
        [],
    )


def load_topups_result(deployment: Deployment, partition: Partition, now_us: int) -> TopupResult:
    """Load the REST answers of a partition, with no new requests.

    Args:
        partition: The partition.
        now_us: The present time; klines that close later are not missing.

    Raises:
        LakeError: A manifest is damaged.
    """
    manifest = read_model(deployment.lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
    archives = load_archives_result(deployment, partition).manifest
    return build_topup_result(
        partition,
        archives,
        manifest,
        trading_period=load_trading_period(deployment, partition.symbol),
        now_us=now_us,
    )


def load_bars_result(deployment: Deployment, partition: Partition) -> BarsResult:
    """Load the result of the last build of bars. The number of duplicates is None: no table contains it.

    Raises:
        LakeError: A table or a manifest cannot be read.
    """
    lake = deployment.lake
    path, conflicts, exclusions = lake.bars(partition), lake.conflicts(partition), lake.exclusions(partition)
    sources = read_table(path, ["source"])["source"]
    causes = (
        read_table(exclusions, ["cause"])["cause"]
        if exclusions.is_file()
        else pl.Series("cause", [], pl.String())
    )
    return BarsResult(
        partition,
        rows=sources.len(),
        by_source=count_values(sources, SOURCES),
        duplicates=None,
        conflicts=read_table(conflicts, ["field"]).height if conflicts.is_file() else 0,
        excluded=count_values(causes, tuple(Exclusion)),
        bytes=path.stat().st_size,
        sha256=sha256_file(path),
        raw_digests=read_raw_digests(deployment, partition),
    )


def load_gaps_result(deployment: Deployment, partition: Partition) -> GapsResult:
    """Load the gap ledger of a partition.

    Raises:
        LakeError: A table or a manifest cannot be read.
    """
    lake = deployment.lake
    window = read_table(lake.window(partition), ["expected", "as_of_us"]).row(0, named=True)
    result = GapsResult(partition, read_table(lake.gaps(partition)), window["expected"], 0)
    if not result.missing:
        return result
    archives = load_archives_result(deployment, partition).manifest
    topups = read_model(lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
    trading_period = load_trading_period(deployment, partition.symbol)
    requested = find_ranges_to_request(
        partition,
        archives,
        topups,
        trading_period=trading_period,
        gaps=deployment.settings.gaps,
        now_us=window["as_of_us"],
    )
    return GapsResult(
        partition, result.gaps, result.expected, sum_lengths(requested) // partition.interval.us
    )
