"""Gates on the rows of partitions, on rows off the grid, and on the checksums of raw files.

The rules for rows are in `tables/klines/bars.py`. The gates on coverage are in `coverage_gates.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import polars as pl

from capture_pipeline.calendars.irregularities import is_known
from capture_pipeline.checks.klines import OFF_GRID, RAW_CHECKSUMS, list_row_gates
from capture_pipeline.checks.model import Verdict
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import LakeError
from capture_pipeline.klines.bars import read_raw_file
from capture_pipeline.klines.quality.gate_results import GateResult, fail_gates, pass_gates
from capture_pipeline.klines.quality.row_rules import evaluate_row_gates, is_valid
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import ArchivesManifest, TopupsManifest
from capture_pipeline.lake.parquet import read_table
from capture_pipeline.lake.paths import Partition
from capture_pipeline.settings.levels import Level
from capture_pipeline.tables.klines.exclusions import EXCLUSIONS, Exclusion

_ROWS_AT_ONCE = 600_000


def check_bars(deployment: Deployment, partitions: Sequence[Partition], now_us: int) -> list[GateResult]:
    """Evaluate the row gates, the off-grid gate and the checksum gate of each partition.

    Several months of a symbol are evaluated together; if one of them fails, each month is evaluated
    separately.

    Args:
        partitions: The partitions; one without bars fails its row gates.
        now_us: The present time.
    """
    results: list[GateResult] = []
    ordered = sorted(partitions, key=lambda part: (part.symbol, part.month))
    for _, group in groupby(ordered, key=lambda part: part.symbol):
        for chunk in _split_by_rows(list(group)):
            results += _check_chunk(deployment, chunk, now_us)
    return results


def _check_chunk(deployment: Deployment, chunk: list[Partition], now_us: int) -> list[GateResult]:
    interval, shown = deployment.settings.interval, deployment.settings.gates.failing_rows_shown
    frames = [_read_bars(deployment, part) for part in chunk]
    existing = [frame for frame in frames if frame is not None]
    all_sound = len({tuple(frame.schema.items()) for frame in existing}) == 1 and is_valid(
        pl.concat(existing), interval, now_us
    )
    results: list[GateResult] = []
    for part, frame in zip(chunk, frames, strict=True):
        if frame is None:
            found = fail_gates(list_row_gates(), "there are no bars; materialize the partition first")
        elif all_sound:
            found = pass_gates(list_row_gates(), frame.height)
        else:
            found = evaluate_row_gates(frame, interval, now_us, shown, deployment.known_irregularities(part))
        bars = deployment.lake.relative(deployment.lake.bars(part))
        found.append(_check_off_grid(deployment, part))
        found.append(_check_checksums(deployment, part, frame))
        results += [
            replace(result, symbol=part.symbol, month=str(part.month), file=result.file or bars)
            for result in found
        ]
    return results


def _split_by_rows(partitions: list[Partition]) -> Iterator[list[Partition]]:
    """Yield groups of neighbouring months with at most `_ROWS_AT_ONCE` expected rows."""
    size = max(1, _ROWS_AT_ONCE // partitions[0].expected)
    for start in range(0, len(partitions), size):
        yield partitions[start : start + size]


def _read_bars(deployment: Deployment, partition: Partition) -> pl.DataFrame | None:
    path = deployment.lake.bars(partition)
    try:
        return read_table(path) if path.is_file() else None
    except LakeError as error:
        # A frame with another schema fails the schema gate, and the gate shows this error as a failing row.
        return pl.DataFrame({"unreadable": [str(error)]})


def _check_off_grid(deployment: Deployment, partition: Partition) -> GateResult:
    """Evaluate the off-grid gate; an unreadable table of exclusions fails it."""
    path = deployment.lake.exclusions(partition)
    try:
        rows = read_table(path) if path.is_file() else pl.DataFrame(schema=EXCLUSIONS.schema)
    except LakeError as error:
        return GateResult(
            OFF_GRID,
            Verdict.FAIL,
            str(error),
            level=Level.WARNING,
            file=deployment.lake.relative(path),
        )
    known = is_known(deployment.known_irregularities(partition), partition.interval, pl.col("cause"))
    rows = rows.filter(pl.col("cause") == str(Exclusion.OFF_GRID))
    unknown = rows.filter(~known)
    counts = {"known": rows.height - unknown.height, "unknown": unknown.height}
    remedy = (
        "they are kept in bar_exclusions; "
        "list them as off_grid in gaps.irregularity_calendar once they are explained"
    )
    return GateResult(
        OFF_GRID,
        Verdict.of(unknown.is_empty()),
        f"{unknown.height:,} of {rows.height:,} rows off the grid are not listed; {remedy}"
        if unknown.height
        else "",
        {"off_grid": counts},
        level=Level.WARNING,
        failing=unknown.select("open_time_us", "close_time_us", "shift_us", "source", "file").head(
            deployment.settings.gates.failing_rows_shown
        ),
        failing_count=unknown.height,
        file=deployment.lake.relative(path),
    )


def _check_checksums(deployment: Deployment, partition: Partition, bars: pl.DataFrame | None) -> GateResult:
    """Compare every recorded raw file with its digest. Files in the quarantine may be deleted: skip them."""
    lake = deployment.lake
    archives = read_model(lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
    topups = read_model(lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
    recorded = [
        (record.path, record.sha256_own)
        for record in (*archives.files, *archives.superseded)
        if record.path and not record.quarantined
    ]
    recorded += [(page.path, page.sha256) for page in topups.pages]
    wrong = []
    for path, digest in recorded:
        try:
            read_raw_file(lake, path, digest)
        except LakeError as error:
            wrong.append({"file": path, "problem": error.what})
    failing = pl.DataFrame(wrong, schema={"file": pl.String, "problem": pl.String})
    if not recorded and bars is not None and bars.height:
        wrong.append(
            {
                "file": lake.relative(lake.raw(partition)),
                "problem": "the partition has bars and no recorded raw file",
            }
        )
    reason = (
        f"{len(wrong)} of {len(recorded)} raw files are not as recorded: {wrong[0]['file']}" if wrong else ""
    )
    return GateResult(
        RAW_CHECKSUMS,
        Verdict.of(not wrong),
        reason,
        {"files": len(recorded), "unverified": sum(record.unverified for record in archives.files)},
        failing=failing,
        failing_count=len(wrong),
        file=wrong[0]["file"] if wrong else "",
    )
