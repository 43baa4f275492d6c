"""Results of a partition as the lake records them, whoever made them. Asks nobody and changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import polars as pl

from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.klines.bars import BarsResult, count_values, made_of
from capture_pipeline.klines.gaps import GapsResult
from capture_pipeline.klines.ingest.archives import ArchivesResult
from capture_pipeline.klines.ingest.rest_fill import TopupResult, ranges_to_request, result_of
from capture_pipeline.klines.ingest.trading_period import load_trading_period
from capture_pipeline.klines.quality.ranges import length
from capture_pipeline.lake.files import read_model, sha256_file
from capture_pipeline.lake.manifests import ArchivesManifest, TopupsManifest
from capture_pipeline.lake.parquet import read_table
from capture_pipeline.lake.paths import Lake, Partition
from capture_pipeline.tables.bars import SOURCES
from capture_pipeline.tables.exclusions import Exclusion


@dataclass(frozen=True)
class Stamps:
    """When the files of a partition were last changed, nanoseconds of the file system's clock; 0 where a file is not there.

    Attributes:
        raw_ns: Of the manifests of raw files.
        bars_ns: Of the bars.
        gaps_ns: Of the gap ledger.
        reconciliation_ns: Of the report on differences between the sources.
    """

    raw_ns: int
    bars_ns: int
    gaps_ns: int
    reconciliation_ns: int

    @property
    def newest_ns(self) -> int:
        """The last change of all."""
        return max(self.raw_ns, self.bars_ns, self.gaps_ns, self.reconciliation_ns)

    @property
    def is_reconciled(self) -> bool:
        """Whether the report on differences was made after the bars."""
        return 0 < self.bars_ns <= self.reconciliation_ns

    @property
    def current(self) -> Sequence[int]:
        """Raw files, and what is there and was made after what it is made of, in this order."""
        ordered = [self.raw_ns, self.bars_ns, self.gaps_ns]
        pairs = takewhile(
            lambda pair: pair[1] and pair[1] >= pair[0], zip([0, *ordered], ordered, strict=False)
        )
        return [stamp for _, stamp in pairs]

    @property
    def is_complete(self) -> bool:
        """Whether the gap ledger is of these bars, and the bars of these raw files."""
        return len(self.current) == 3  # noqa: PLR2004 - raw files, bars, gaps


def stamps_of(lake: Lake, partition: Partition) -> Stamps:
    """Return when the files of a partition were changed.

    The time of change of the file's entry is used: a file that is restored from a backup keeps its time of modification.
    """
    manifests = max(
        _changed_ns(lake.archives_manifest(partition)), _changed_ns(lake.topups_manifest(partition))
    )
    derived = lake.bars(partition), lake.window(partition), lake.reconciliation(partition)
    return Stamps(manifests, *map(_changed_ns, derived))


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_ctime_ns
    except FileNotFoundError:
        return 0


def recorded_archives(workspace: Workspace, partition: Partition) -> ArchivesResult:
    """Return the archive files of a partition; none of them counts as fetched now.

    Raises:
        LakeError: The manifest is damaged.
    """
    return ArchivesResult(
        partition,
        read_model(workspace.lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest(),
        [],
    )


def recorded_topups(workspace: Workspace, partition: Partition, now_us: int) -> TopupResult:
    """Return the REST answers of a partition; none of them counts as asked for now.

    Args:
        workspace: The deployment.
        partition: Which one.
        now_us: The present, up to which candles can be missing.

    Raises:
        LakeError: A manifest is damaged.
    """
    manifest = read_model(workspace.lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
    archives = recorded_archives(workspace, partition).manifest
    return result_of(
        partition, archives, manifest, life=load_trading_period(workspace, partition.symbol), now_us=now_us
    )


def recorded_bars(workspace: Workspace, partition: Partition) -> BarsResult:
    """Return what the tables of a partition contain. How many rows were duplicates is not recorded.

    Raises:
        LakeError: A table or a manifest cannot be read.
    """
    lake = workspace.lake
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
        made_of=made_of(workspace, partition),
    )


def recorded_gaps(workspace: Workspace, partition: Partition) -> GapsResult:
    """Return the gap ledger of a partition.

    Raises:
        LakeError: A table or a manifest cannot be read.
    """
    lake = workspace.lake
    window = read_table(lake.window(partition), ["expected", "as_of_us"]).row(0, named=True)
    result = GapsResult(partition, read_table(lake.gaps(partition)), window["expected"], 0)
    if not result.missing:
        return result
    archives = recorded_archives(workspace, partition).manifest
    topups = read_model(lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
    life = load_trading_period(workspace, partition.symbol)
    asked = ranges_to_request(
        partition, archives, topups, life=life, gaps=workspace.settings.gaps, now_us=window["as_of_us"]
    )
    return GapsResult(partition, result.gaps, result.expected, length(asked) // partition.interval.us)
