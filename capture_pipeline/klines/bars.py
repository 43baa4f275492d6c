"""Build of the table `bars` from raw files. Each raw file is compared with its recorded digest first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from capture_pipeline.binance.archive.frame_cache import read_zip
from capture_pipeline.binance.archive.klines.parser import parse_rest
from capture_pipeline.binance.periods import Interval
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.deployment.lake_guard import lock_partition
from capture_pipeline.errors import LakeError
from capture_pipeline.klines.ingest.rest_fill import select_closed
from capture_pipeline.klines.merge import MergeResult, Part, SeparatedRows, merge, separate_rows
from capture_pipeline.lake.files import read_model, unpublish
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest, RestPage, TopupsManifest
from capture_pipeline.lake.parquet import PublishedTable, publish_table
from capture_pipeline.lake.paths import Lake, Partition
from capture_pipeline.tables.klines.bars import SOURCES
from capture_pipeline.tables.klines.exclusions import Exclusion

_MB = 1 << 20


@dataclass(frozen=True)
class BarsResult:
    """Published bars of one partition.

    Attributes:
        partition: The partition.
        rows: Number of bars.
        by_source: Number of bars by source.
        duplicates: Number of rows that repeat another row; None if it is not known.
        conflicts: Number of fields in which two sources differ.
        excluded: Number of rows that are not used as bars, by cause.
        bytes: Size of the file of bars.
        sha256: SHA-256 of the file of bars.
        raw_digests: SHA-256 of the raw files that the bars were built from, by path in the lake.
    """

    partition: Partition
    rows: int
    by_source: dict[str, int]
    duplicates: int | None
    conflicts: int
    excluded: dict[str, int]
    bytes: int
    sha256: str
    raw_digests: dict[str, str]


class BuiltBars(NamedTuple):
    """Result of a build, and the bars."""

    result: BarsResult
    frame: pl.DataFrame


class RawRows(NamedTuple):
    """Rows of the raw files of a partition, and the SHA-256 of each file that was read, by path."""

    rows: SeparatedRows
    digests: dict[str, str]


class _Manifests(NamedTuple):
    archives: ArchivesManifest
    topups: TopupsManifest


def update_bars(deployment: Deployment, partition: Partition) -> BarsResult:
    """Build the bars of one partition under its lock; see `build_bars`.

    Raises:
        BusyError: Another run had the lock of this partition for `LOCK_TIMEOUT_S`.
        LakeError: A recorded raw file is missing or altered.
    """
    with lock_partition(deployment, partition):
        return build_bars(deployment, partition).result


def build_bars(deployment: Deployment, partition: Partition) -> BuiltBars:
    """Merge the raw files of one partition and publish its bars, conflicts and exclusions.

    The caller has the lock of the partition.

    Raises:
        LakeError: A recorded raw file is missing or altered. The published bars do not change.
    """
    lake = deployment.lake
    raw = read_parts(deployment, partition)
    separated = raw.rows
    merged = merge(separated.parts)
    _publish_unless_empty(separated.exclusions, lake.exclusions(partition))
    published = publish_table(merged.bars, lake.bars(partition))
    _publish_unless_empty(merged.conflicts, lake.conflicts(partition))
    result = _build_result(partition, merged, separated.exclusions, published, raw.digests)
    return BuiltBars(result, merged.bars)


def _publish_unless_empty(table: pl.DataFrame, path: Path) -> None:
    """Publish a table, or remove its file if the table is empty."""
    if table.is_empty():
        unpublish(path)
    else:
        publish_table(table, path)


def read_raw_file(lake: Lake, recorded: str, sha256: str | None) -> bytes:
    """Read a raw file and compare it with its recorded digest.

    Args:
        lake: The lake.
        recorded: Path of the file in its manifest.
        sha256: Digest of the file in its manifest.

    Raises:
        LakeError: The file is missing, or its digest is not the recorded one.
    """
    path = lake.resolve(recorded)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise LakeError(
            "is recorded but missing", where=recorded, remedy="backfill its partition again to download it"
        ) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        remedy = "backfill its partition again: the file is moved to the quarantine and downloaded again"
        raise LakeError("was altered: its SHA-256 is not the recorded one", where=recorded, remedy=remedy)
    return content


def read_parts(deployment: Deployment, partition: Partition) -> RawRows:
    """Read every usable raw file of one partition and separate the rows that are not bars.

    Raises:
        LakeError: A recorded raw file is missing or altered.
    """
    lake = deployment.lake
    archives, topups = _read_manifests(lake, partition)
    limit = deployment.settings.http.max_csv_mb * _MB
    parts = [_read_archive_part(deployment, record, limit) for record in archives.usable()]
    parts += [_read_rest_part(lake, page, partition.interval) for page in topups.pages]
    return RawRows(separate_rows(parts, partition.interval.us), _list_digests(archives, topups))


def read_raw_digests(deployment: Deployment, partition: Partition) -> dict[str, str]:
    """Read the recorded SHA-256 of each raw file that the bars of a partition are built from, by path.

    Raises:
        LakeError: A manifest of the partition is damaged.
    """
    archives, topups = _read_manifests(deployment.lake, partition)
    return _list_digests(archives, topups)


def _read_manifests(lake: Lake, partition: Partition) -> _Manifests:
    archives = read_model(lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
    topups = read_model(lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
    return _Manifests(archives, topups)


def _list_digests(archives: ArchivesManifest, topups: TopupsManifest) -> dict[str, str]:
    files = {record.path or "": record.sha256_own or "" for record in archives.usable()}
    return files | {page.path: page.sha256 for page in topups.pages}


def _read_archive_part(deployment: Deployment, record: ArchiveRecord, limit: int) -> Part:
    content = read_raw_file(deployment.lake, record.path or "", record.sha256_own)
    rows = deployment.frame_cache.take(record.name, record.sha256_own)
    if rows is None:
        rows = read_zip(content, record.name.removesuffix(".zip"), limit, record.bounds)
    return Part(record.source, record.name, rows, record.bounds)


def _read_rest_part(lake: Lake, page: RestPage, interval: Interval) -> Part:
    rows = parse_rest(read_raw_file(lake, page.path, page.sha256), page.path)
    return Part("rest", page.path.rsplit("/", 1)[-1], select_closed(rows, interval, page.server_time_us))


def _build_result(
    partition: Partition,
    merged: MergeResult,
    exclusions: pl.DataFrame,
    published: PublishedTable,
    raw_digests: dict[str, str],
) -> BarsResult:
    return BarsResult(
        partition,
        merged.bars.height,
        count_values(merged.bars["source"], SOURCES),
        merged.duplicates,
        merged.conflicts.height,
        count_values(exclusions["cause"], tuple(Exclusion)),
        published.bytes,
        published.sha256,
        raw_digests,
    )


def count_values(column: pl.Series, values: Sequence[str]) -> dict[str, int]:
    """Count the rows with each value, one value at a time: `group_by` of text takes 150 bytes per row."""
    counts = {str(value): int((column == str(value)).sum()) for value in sorted(values)}
    return {value: count for value, count in counts.items() if count}
