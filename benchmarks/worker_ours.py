"""Ours, from a zip to checked bars: the work of a backfill between the download and the gap ledger.

The zip is in the raw folder of the lake, as after the download. The measured work is the verification against
the published checksum, the manifest, the construction of bars and conflicts (digest, inflate, exact parse,
merge, durable write) and the blocking gates. Several symbol-months are processed in parallel, as in a
backfill.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from inputs import create_deployment
from offline import NOW_US, archive_file_of, partition_of, read_from_folder
from stopwatch import parse_folders, serve

from capture_pipeline.binance.archive.protocol import Trust, evaluate_digest, parse_checksum
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.backfill import map_threads_ordered
from capture_pipeline.klines.bars import build_bars
from capture_pipeline.klines.quality.row_rules import evaluate_row_gates
from capture_pipeline.lake.files import publish_model, sha256_file
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest


def main() -> None:
    """Run the stopwatch; the number is the number of zips."""
    zips, into = parse_folders()
    deployment = create_deployment(into, read_from_folder(zips[0].parent))
    raw_files = [(path, _link_raw_file(deployment, path)) for path in zips]

    def work(number: int) -> int:
        return sum(
            map_threads_ordered(partial(_convert, deployment, path, raw) for path, raw in raw_files[:number])
        )

    serve(work)


def _link_raw_file(deployment: Deployment, path: Path) -> Path:
    file = archive_file_of(path)
    raw = deployment.lake.archive_file(partition_of(file), file.name, sha256_file(path))
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.unlink(missing_ok=True)
    os.link(path, raw)
    return raw


def _convert(deployment: Deployment, path: Path, raw: Path) -> int:
    """Verify, build and check one symbol-month.

    Raises:
        ValueError: The digest is wrong, or a gate fails.
    """
    file = archive_file_of(path)
    partition = partition_of(file)
    published = parse_checksum(Path(f"{path}.CHECKSUM").read_text(encoding="ascii"), file.name)
    own = sha256_file(raw)
    trust = evaluate_digest(own, published, None, fresh=False).trust
    if trust is not Trust.OK:
        raise ValueError(f"{file.name}: {trust}")
    record = ArchiveRecord(
        name=file.name,
        granularity=file.granularity,
        start_us=file.bounds[0],
        end_us=file.bounds[1],
        trust=trust,
        usable=True,
        url=deployment.archive.url(file),
        path=deployment.lake.relative(raw),
        sha256_own=own,
        sha256_published=published,
        fetched_at_us=NOW_US,
        checked_at_us=NOW_US,
    )
    publish_model(deployment.lake.archives_manifest(partition), ArchivesManifest(files=[record]))
    result, bars = build_bars(deployment, partition)
    failed = [
        gate.spec.name for gate in evaluate_row_gates(bars, partition.interval, NOW_US, 1) if not gate.passed
    ]
    if failed:
        raise ValueError(f"{file.name}: {failed}")
    return result.rows


if __name__ == "__main__":
    main()
