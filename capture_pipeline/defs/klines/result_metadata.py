"""Conversion of domain results to the metadata of materializations."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import iso
from capture_pipeline.defs.shared.partition_runner import MetadataByAsset
from capture_pipeline.defs.shared.table_metadata import ROWS, build_records, build_table
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.bars import BarsResult
from capture_pipeline.klines.gaps import GapsResult
from capture_pipeline.klines.ingest.archives import ArchivesResult
from capture_pipeline.klines.ingest.rest_fill import TopupResult
from capture_pipeline.klines.reconciliation import Reconciliation
from capture_pipeline.lake.manifests import ArchiveRecord, RestPage

_MB = 1_000_000
RUN_VALUES = frozenset(
    {
        "fetched_now",
        "mb_per_s",
        "attempts",
        "requests_now",
        "rows_now",
        "still_missing",
        "archive_only",
        "duplicates",
        "fillable",
    }
    | {"as_of", "newest_age_hours", "catalog", "views"}
)
"""Metadata that depend on the run or the time; all other metadata depend only on the files."""
_PAGES_SHOWN = 50


def archives(result: ArchivesResult) -> MetadataByAsset:
    """Return the metadata of `kline_archives`."""
    published = [record for record in result.manifest.files if record.trust is not Trust.NOT_PUBLISHED]
    fetched = [record for record in published if record.name in result.fetched]
    seconds = sum(record.seconds for record in fetched)
    size = sum(record.bytes for record in fetched)
    return {
        "kline_archives": {
            ROWS: sum(record.rows for record in result.manifest.usable()),
            "files": len(published),
            "fetched_now": len(fetched),
            "bytes": sum(record.bytes for record in published),
            "mb_per_s": round(size / _MB / seconds, 2) if seconds else 0.0,
            "attempts": sum(record.attempts for record in fetched),
            "quarantined": len(result.quarantined),
            "unverified": len(result.unverified),
            "superseded": len(result.manifest.superseded),
            "trust": dict(Counter(str(record.trust) for record in result.manifest.files)),
            "archive_files": build_records([_file_row(record) for record in published])
            or "none is published yet",
        }
    }


def topups(result: TopupResult) -> MetadataByAsset:
    """Return the metadata of `kline_topups`."""
    pages = result.manifest.pages
    return {
        "kline_topups": {
            ROWS: sum(page.rows for page in pages),
            "requests_now": result.pages,
            "rows_now": result.rows,
            "still_missing": result.still_missing,
            "archive_only": result.archive_only or "no",
            "answers": len(pages),
            "newest_answers": build_records([_page_row(page) for page in pages[-_PAGES_SHOWN:]])
            or "nothing was missing",
        }
    }


def bars(deployment: Deployment, result: BarsResult) -> MetadataByAsset:
    """Return the metadata of `bars`, `bar_conflicts` and `bar_exclusions`."""
    lake = deployment.lake
    return {
        "bars": {
            ROWS: result.rows,
            "dagster/uri": str(lake.bars(result.partition)),
            "by_source": result.by_source,
            **({} if result.duplicates is None else {"duplicates": result.duplicates}),
            "conflicts": result.conflicts,
            "excluded": result.excluded,
            "bytes": result.bytes,
            "sha256": result.sha256,
            "made_of": result.raw_digests,
        },
        "bar_conflicts": {ROWS: result.conflicts, "dagster/uri": str(lake.conflicts(result.partition))},
        "bar_exclusions": {
            ROWS: sum(result.excluded.values()),
            "dagster/uri": str(lake.exclusions(result.partition)),
            "causes": result.excluded,
        },
    }


def gaps(deployment: Deployment, result: GapsResult) -> MetadataByAsset:
    """Return the metadata of `bar_gaps`."""
    present = result.expected - result.missing
    rows: list[dict[str, Any]] = [
        {
            "from": iso(row["start_us"]),
            "to": iso(row["end_us"]),
            **{name: row[name] for name in ("bars", "status", "cause", "explained", "filled_by", "detail")},
        }
        for row in result.gaps.iter_rows(named=True)
    ]
    return {
        "bar_gaps": {
            ROWS: result.gaps.height,
            "dagster/uri": str(deployment.lake.gaps(result.partition)),
            "expected": result.expected,
            "missing": result.missing,
            "unexplained": result.unexplained,
            "suspended": result.suspended,
            "fillable": result.fillable,
            "coverage_percent": round(100 * present / result.expected, 4) if result.expected else 100.0,
            "explained_coverage_percent": round(100 * present / result.attainable, 4)
            if result.attainable
            else 100.0,
            "gaps": build_table(rows) if rows else "no gap",
        }
    }


def reconciliation(result: Reconciliation) -> MetadataByAsset:
    """Return the metadata of `month_reconciliation`."""
    report = result.report
    figures = report.model_dump(exclude={"partition", "differences"})
    listed = [difference.model_dump(exclude={"open_time"}) for difference in report.differences]
    shown = build_table(listed or [{"open_time_us": "no source disagrees with another"}])
    return {
        "month_reconciliation": {
            ROWS: report.differing_fields,
            **figures,
            "report": result.path,
            "differences": shown,
        }
    }


def revisions(records: Sequence[ArchiveRecord]) -> dict[str, Any]:
    """Return the metadata of an observation of files with a changed checksum."""
    return {"republished": len(records), "files": build_table([_file_row(record) for record in records])}


def _file_row(record: ArchiveRecord) -> dict[str, Any]:
    speed = round(record.bytes / _MB / record.seconds, 2) if record.seconds else 0.0
    return {
        "name": record.name,
        "trust": str(record.trust),
        "used": record.usable,
        "rows": record.rows,
        "bytes": record.bytes,
        "sha256_own": record.sha256_own,
        "sha256_published": record.sha256_published,
        "etag": record.etag,
        "mb_per_s": speed,
        "attempts": record.attempts,
        "fetched_at": iso(record.fetched_at_us),
        "url": record.url,
        "detail": record.detail,
    }


def _page_row(page: RestPage) -> dict[str, Any]:
    return {
        "asked": iso(page.asked_start_us),
        "until": iso(page.asked_end_us),
        "rows": page.rows,
        "at": iso(page.asked_at_us),
        "sha256": page.sha256,
        "url": page.url,
    }
