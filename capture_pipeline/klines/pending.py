"""What there is to do: months to close, holes worth asking for, checksums due to be read again. Decides; does nothing.

A partition of which a record is damaged is told, and does not keep the others from being found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import DAY_US, Month
from capture_pipeline.binance.urls import ArchiveFile, Granularity, folder
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import LakeError
from capture_pipeline.klines.ingest.republished import recheckable
from capture_pipeline.klines.ingest.rest_fill import ranges_to_request
from capture_pipeline.klines.ingest.trading_period import load_trading_period
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import ArchivesManifest, TopupsManifest, TradingPeriod
from capture_pipeline.lake.parquet import read_table
from capture_pipeline.lake.paths import Partition

_MONTHS_WATCHED = 3


@dataclass(frozen=True)
class WorkList:
    """What there is to do.

    Attributes:
        partitions: For which ones.
        damaged: What kept others from being judged, one error a partition.
    """

    partitions: list[Partition] = field(default_factory=list)
    damaged: dict[Partition, LakeError] = field(default_factory=dict)

    @contextmanager
    def judging(self, partition: Partition) -> Iterator[None]:
        """Keep a record of this partition that is damaged from ending the search."""
        try:
            yield
        except LakeError as error:
            self.damaged[partition] = error


def closable(workspace: Workspace, now_us: int) -> WorkList:
    """Closed months whose monthly file is published and not ingested; one listing a symbol with such a month is asked for.

    Args:
        workspace: The deployment.
        now_us: The present. Only the last months are watched: older ones are a backfill's.
    """
    closed = [month for month in workspace.months(now_us) if month.end_us <= now_us][-_MONTHS_WATCHED:]
    found = WorkList()
    for symbol in workspace.settings.symbols:
        waiting: list[Partition] = []
        for part in workspace.partitions([symbol], closed):
            with found.judging(part):
                if _ingested(workspace, part) and not _has_monthly(workspace, part):
                    waiting.append(part)
        if waiting:
            prefix = folder(
                workspace.settings.market, Granularity.MONTHLY, symbol, workspace.settings.interval
            )
            published = {entry.key for entry in workspace.archive.listing(prefix)}
            files = {part: ArchiveFile(part.market, symbol, part.interval, part.month) for part in waiting}
            found.partitions.extend(part for part, file in files.items() if file.path in published)
    return found


def fillable(workspace: Workspace, now_us: int) -> WorkList:
    """Closed or open months that were fetched once and have holes worth a request now; asks nobody.

    A hole that is verified as non-existent, or was seen a moment ago, is never among them, so asking again always ends.

    Args:
        workspace: The deployment.
        now_us: The present.
    """
    found = WorkList()
    life_of = cache(partial(load_trading_period, workspace))
    for part in _partitions(workspace, now_us):
        with found.judging(part):
            if _is_fillable(workspace, part, now_us, life_of):
                found.partitions.append(part)
    return found


def unfinished(workspace: Workspace, now_us: int) -> list[Partition]:
    """Begun partitions whose ledger was last computed before their month had ended, the open month's among them.

    Where it cannot be read when it was computed, it is to be computed anew.

    Args:
        workspace: The deployment.
        now_us: The present.
    """
    parts = [part for part in _partitions(workspace, now_us) if workspace.lake.window(part).is_file()]
    return [part for part in parts if not _is_finished(workspace, part)]


def due_for_recheck(workspace: Workspace, now_us: int, limit: int) -> WorkList:
    """Partitions whose published checksums were read longest ago, and long enough.

    Args:
        workspace: The deployment.
        now_us: The present.
        limit: The most to return.
    """
    age = workspace.settings.archive.recheck_days * DAY_US
    due: list[tuple[int, Partition]] = []
    found = WorkList()
    for part in _partitions(workspace, now_us):
        with found.judging(part):
            manifest = (
                read_model(workspace.lake.archives_manifest(part), ArchivesManifest) or ArchivesManifest()
            )
            oldest = min((record.checked_at_us for record in recheckable(manifest)), default=now_us)
            if now_us - oldest >= age:
                due.append((oldest, part))
    found.partitions.extend(
        part for _, part in sorted(due, key=lambda entry: (entry[0], str(entry[1])))[:limit]
    )
    return found


def _partitions(workspace: Workspace, now_us: int) -> list[Partition]:
    return workspace.partitions(workspace.settings.symbols, workspace.months(now_us))


def _is_finished(workspace: Workspace, partition: Partition) -> bool:
    try:
        return bool(
            read_table(workspace.lake.window(partition), ["end_us"])["end_us"].item()
            >= partition.month.end_us
        )
    except LakeError:
        return False


def _ingested(workspace: Workspace, partition: Partition) -> bool:
    return workspace.lake.archives_manifest(partition).is_file()


def _has_monthly(workspace: Workspace, partition: Partition) -> bool:
    """Whether the monthly file is ingested, or was found to be bad and has not been published anew since."""
    manifest = read_model(workspace.lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
    monthly = [record for record in manifest.files if record.granularity is Granularity.MONTHLY]
    return any(
        record.usable or record.trust not in {Trust.NOT_PUBLISHED, Trust.REPUBLISHED} for record in monthly
    )


def _is_fillable(
    workspace: Workspace, partition: Partition, now_us: int, life_of: Callable[[str], TradingPeriod | None]
) -> bool:
    """Holes before today: the present day is the daily update's."""
    lake = workspace.lake
    archives = read_model(lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
    start_us, end_us = partition.month.start_us, partition.month.end_us
    if any(
        file.start_us <= start_us and end_us <= file.end_us and not file.holes for file in archives.usable()
    ):
        # Most partitions end here, with one file read: nothing can be missing, whatever life, answers and settings say.
        return False
    if not lake.window(partition).is_file():
        return False
    topups = read_model(lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
    asked = ranges_to_request(
        partition,
        archives,
        topups,
        life=life_of(partition.symbol),
        gaps=workspace.settings.gaps,
        now_us=now_us,
    )
    yesterday = now_us - DAY_US
    return any(start < yesterday for start, _ in asked) and Month.of(now_us) >= partition.month
