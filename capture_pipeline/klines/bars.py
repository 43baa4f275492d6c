"""From raw files to `bars`: every file checked against its recorded digest, parsed, merged and published whole."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from capture_pipeline.binance.archive.frame_cache import read_zip
from capture_pipeline.binance.archive.klines import parse_rest
from capture_pipeline.binance.periods import Interval
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import LakeError
from capture_pipeline.klines.ingest.fetcher import granularity_name
from capture_pipeline.klines.ingest.rest_fill import closed_klines
from capture_pipeline.lake.files import read_model, unpublish
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest, RestPage, TopupsManifest
from capture_pipeline.lake.parquet import PublishedTable, publish_table
from capture_pipeline.lake.paths import Lake, Partition
from capture_pipeline.tables.bars import SOURCES
from capture_pipeline.tables.exclusions import Exclusion, SeparatedRows, separate_rows
from capture_pipeline.tables.merge import MergeResult, Part, merge

_MB = 1 << 20


@dataclass(frozen=True)
class BarsResult:
    """What was published for one partition.

    Attributes:
        partition: Which one.
        rows: Bars.
        by_source: Bars by source.
        duplicates: Rows that said what another said; None where that is not recorded.
        conflicts: Fields on which sources disagree.
        excluded: Rows that are no bars, by cause.
        bytes: Size of the file.
        sha256: Of the file.
        made_of: SHA-256 of the raw files that its rows were read from, by path in the store.
    """

    partition: Partition
    rows: int
    by_source: dict[str, int]
    duplicates: int | None
    conflicts: int
    excluded: dict[str, int]
    bytes: int
    sha256: str
    made_of: dict[str, str]


def build_bars(workspace: Workspace, partition: Partition) -> tuple[BarsResult, pl.DataFrame]:
    """Merge one partition's raw files into its bars, conflicts and exclusions.

    Args:
        workspace: The deployment.
        partition: Which one.

    Returns:
        What was published, and the bars themselves.

    Raises:
        LakeError: A recorded file is gone or altered; the bars are as before.
    """
    lake = workspace.lake
    separated, made_of = separated_parts(workspace, partition)
    merged = merge(separated.parts)
    _publish_where_any(separated.exclusions, lake.exclusions(partition))
    published = publish_table(merged.bars, lake.bars(partition))
    _publish_where_any(merged.conflicts, lake.conflicts(partition))
    return _result(partition, merged, separated.exclusions, published, made_of), merged.bars


def _publish_where_any(table: pl.DataFrame, path: Path) -> None:
    """Publish a table that has no file while it is empty."""
    if table.is_empty():
        unpublish(path)
    else:
        publish_table(table, path)


def read_recorded(lake: Lake, recorded: str, sha256: str | None) -> bytes:
    """A raw file that a manifest names.

    Raises:
        LakeError: It is gone, or its digest is not the recorded one; backfilling its partition asks for it again.
    """
    path = lake.resolve(recorded)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise LakeError(
            "is recorded but gone", where=recorded, remedy="backfill its partition again to fetch it"
        ) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        remedy = "backfill its partition again: it is moved to the quarantine, and fetched again"
        raise LakeError("is not what was recorded: its SHA-256 differs", where=recorded, remedy=remedy)
    return content


def separated_parts(workspace: Workspace, partition: Partition) -> tuple[SeparatedRows, dict[str, str]]:
    """Read every usable raw file of one partition and divide its rows into those that may be bars and all others.

    Returns:
        The rows, and the SHA-256 of each file that was read, by path.

    Raises:
        LakeError: A recorded file is gone or altered.
    """
    lake = workspace.lake
    archives, topups = _manifests(lake, partition)
    limit = workspace.settings.http.max_csv_mb * _MB
    parts = [_archive_part(workspace, record, limit) for record in archives.usable()]
    parts += [_rest_part(lake, page, partition.interval) for page in topups.pages]
    return separate_rows(parts, partition.interval.us), _digests(archives, topups)


def made_of(workspace: Workspace, partition: Partition) -> dict[str, str]:
    """Return the SHA-256 of each raw file that the bars of a partition are made of, by path.

    Raises:
        LakeError: A manifest is damaged.
    """
    archives, topups = _manifests(workspace.lake, partition)
    return _digests(archives, topups)


def _manifests(lake: Lake, partition: Partition) -> tuple[ArchivesManifest, TopupsManifest]:
    archives = read_model(lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
    return archives, read_model(lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()


def _digests(archives: ArchivesManifest, topups: TopupsManifest) -> dict[str, str]:
    files = {record.path or "": record.sha256_own or "" for record in archives.usable()}
    return files | {page.path: page.sha256 for page in topups.pages}


def _archive_part(workspace: Workspace, record: ArchiveRecord, limit: int) -> Part:
    content = read_recorded(workspace.lake, record.path or "", record.sha256_own)
    rows = workspace.parsed.take(record.name, record.sha256_own)
    if rows is None:
        rows = read_zip(content, record.name.removesuffix(".zip"), limit, (record.start_us, record.end_us))
    return Part(granularity_name(record), record.name, rows, (record.start_us, record.end_us))


def _rest_part(lake: Lake, page: RestPage, interval: Interval) -> Part:
    rows = parse_rest(read_recorded(lake, page.path, page.sha256), page.path)
    return Part("rest", page.path.rsplit("/", 1)[-1], closed_klines(rows, interval, page.server_time_us))


def _result(
    partition: Partition,
    merged: MergeResult,
    exclusions: pl.DataFrame,
    published: PublishedTable,
    made_of: dict[str, str],
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
        made_of,
    )


def count_values(column: pl.Series, values: Sequence[str]) -> dict[str, int]:
    """Count the rows that have each value. Compared and not grouped: grouping by a text takes 150 bytes a row."""
    counts = {str(value): int((column == str(value)).sum()) for value in sorted(values)}
    return {value: count for value, count in counts.items() if count}
