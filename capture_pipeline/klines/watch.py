"""What there is to do: months to close, holes worth asking for, checksums due to be read again. Decides; does nothing."""

from __future__ import annotations

from capture_pipeline.binance.archive import Trust
from capture_pipeline.binance.periods import DAY_US, Month
from capture_pipeline.binance.urls import ArchiveFile, Granularity, folder
from capture_pipeline.klines.life import known_life
from capture_pipeline.klines.revisions import recheckable
from capture_pipeline.klines.topups import to_ask
from capture_pipeline.klines.workspace import Workspace
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import ArchivesManifest, TopupsManifest
from capture_pipeline.lake.parquet import read_table
from capture_pipeline.lake.paths import Partition

_MONTHS_WATCHED = 3


def closable(workspace: Workspace, now_us: int) -> list[Partition]:
    """Closed months whose monthly file is published and not ingested; one listing a symbol with such a month is asked for.

    Args:
        workspace: The deployment.
        now_us: The present. Only the last months are watched: older ones are a backfill's.
    """
    closed = [month for month in workspace.months(now_us) if month.end_us <= now_us][-_MONTHS_WATCHED:]
    found: list[Partition] = []
    for symbol in workspace.settings.symbols:
        waiting = [workspace.partition(symbol, month) for month in closed]
        waiting = [part for part in waiting if _ingested(workspace, part) and not _has_monthly(workspace, part)]
        if waiting:
            prefix = folder(workspace.settings.market, Granularity.MONTHLY, symbol, workspace.settings.interval)
            published = {entry.key for entry in workspace.archive.listing(prefix)}
            found += [part for part in waiting if ArchiveFile(part.market, symbol, part.interval, part.month).path in published]
    return found


def fillable(workspace: Workspace, now_us: int) -> list[Partition]:
    """Closed or open months that were fetched once and have holes worth a request now; asks nobody.

    A hole that is verified as non-existent, or was seen a moment ago, is never among them, so asking again always ends.

    Args:
        workspace: The deployment.
        now_us: The present.
    """
    return [part for part in _partitions(workspace, now_us) if _is_fillable(workspace, part, now_us)]


def unfinished(workspace: Workspace, now_us: int) -> list[Partition]:
    """Begun partitions whose ledger was last computed before their month had ended, the open month's among them.

    Args:
        workspace: The deployment.
        now_us: The present.
    """
    parts = [part for part in _partitions(workspace, now_us) if workspace.lake.window(part).is_file()]
    return [part for part in parts if read_table(workspace.lake.window(part), ["end_us"])["end_us"].item() < part.month.end_us]


def due_for_recheck(workspace: Workspace, now_us: int, limit: int) -> list[Partition]:
    """Partitions whose published checksums were read longest ago, and long enough.

    Args:
        workspace: The deployment.
        now_us: The present.
        limit: The most to return.
    """
    age = workspace.settings.archive.recheck_days * DAY_US
    due: list[tuple[int, Partition]] = []
    for part in _partitions(workspace, now_us):
        manifest = read_model(workspace.lake.archives_manifest(part), ArchivesManifest)
        if manifest and recheckable(manifest):
            oldest = min(record.checked_at_us for record in recheckable(manifest))
            if now_us - oldest >= age:
                due.append((oldest, part))
    return [part for _, part in sorted(due, key=lambda entry: (entry[0], str(entry[1])))[:limit]]


def _partitions(workspace: Workspace, now_us: int) -> list[Partition]:
    return workspace.partitions(workspace.settings.symbols, workspace.months(now_us))


def _ingested(workspace: Workspace, partition: Partition) -> bool:
    return workspace.lake.archives_manifest(partition).is_file()


def _has_monthly(workspace: Workspace, partition: Partition) -> bool:
    """Whether the monthly file is ingested, or was found to be bad and has not been published anew since."""
    manifest = read_model(workspace.lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
    monthly = [record for record in manifest.files if record.granularity is Granularity.MONTHLY]
    return any(record.usable or record.trust not in {Trust.NOT_PUBLISHED, Trust.REPUBLISHED} for record in monthly)


def _is_fillable(workspace: Workspace, partition: Partition, now_us: int) -> bool:
    """Holes before today: the present day is the daily update's."""
    lake = workspace.lake
    if not lake.window(partition).is_file():
        return False
    archives = read_model(lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
    topups = read_model(lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
    life = known_life(workspace, partition.symbol)
    asked = to_ask(partition, archives, topups, life=life, gaps=workspace.settings.gaps, now_us=now_us)
    yesterday = now_us - DAY_US
    return any(start < yesterday for start, _ in asked) and Month.of(now_us) >= partition.month
