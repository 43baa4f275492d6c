"""The gates of rows over the lake: which data each one sees, and whether the raw files are still those that were recorded.

The rules of rows stand in `tables/bars.py`. How much is there is judged in `coverage_gates.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import polars as pl

from capture_pipeline.calendars.irregularities import is_known
from capture_pipeline.checks.gates import (
    CHECKSUM_GATE,
    OFF_GRID_GATE,
    GateResult,
    GateSpec,
    evaluate_row_gates,
    is_valid,
    row_gates,
)
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import LakeError
from capture_pipeline.klines.bars import read_recorded
from capture_pipeline.klines.quality.gates import coverage_specs
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import ArchivesManifest, TopupsManifest
from capture_pipeline.lake.parquet import read_table
from capture_pipeline.lake.paths import Partition
from capture_pipeline.settings.levels import Level
from capture_pipeline.tables.exclusions import EXCLUSION_SCHEMA, Exclusion

_ROWS_AT_ONCE = 600_000


def gate_specs() -> list[GateSpec]:
    """All gates, in the order in which they are evaluated."""
    return [*row_gates(), OFF_GRID_GATE, CHECKSUM_GATE, *coverage_specs()]


def check_bars(workspace: Workspace, partitions: Sequence[Partition], now_us: int) -> list[GateResult]:
    """The row gates, the rows off the grid and the checksums of raw files, for each partition that has bars.

    Several months of a symbol are held to the rules at once; only where one fails are they looked at one by one.

    Args:
        workspace: The deployment.
        partitions: Which ones; one without bars fails its schema gate.
        now_us: The present.
    """
    results: list[GateResult] = []
    ordered = sorted(partitions, key=lambda part: (part.symbol, part.month))
    for _, group in groupby(ordered, key=lambda part: part.symbol):
        for chunk in _chunks(list(group)):
            results += _check_chunk(workspace, chunk, now_us)
    return results


def _check_chunk(workspace: Workspace, chunk: list[Partition], now_us: int) -> list[GateResult]:
    interval, shown = workspace.settings.interval, workspace.settings.gates.failing_rows_shown
    frames = [_read(workspace, part) for part in chunk]
    there = [frame for frame in frames if frame is not None]
    sound = len({tuple(frame.schema.items()) for frame in there}) == 1 and is_valid(
        pl.concat(there), interval, now_us
    )
    results: list[GateResult] = []
    for part, frame in zip(chunk, frames, strict=True):
        if frame is None:
            summary = "there are no bars; materialize the partition first"
            found = [
                GateResult(spec, passed=False, level=Level.CRITICAL, summary=summary) for spec in row_gates()
            ]
        elif sound:
            found = [GateResult(spec, passed=True, values={"rows": frame.height}) for spec in row_gates()]
        else:
            found = evaluate_row_gates(frame, interval, now_us, shown, workspace.known_irregularities(part))
        bars = workspace.lake.relative(workspace.lake.bars(part))
        found.append(_off_grid(workspace, part))
        found.append(_checksums(workspace, part, frame))
        results += [
            replace(result, symbol=part.symbol, month=str(part.month), file=result.file or bars)
            for result in found
        ]
    return results


def _chunks(partitions: list[Partition]) -> Iterator[list[Partition]]:
    """As many neighbouring months as hold a bounded number of rows."""
    size = max(1, _ROWS_AT_ONCE // partitions[0].expected)
    for start in range(0, len(partitions), size):
        yield partitions[start : start + size]


def _read(workspace: Workspace, partition: Partition) -> pl.DataFrame | None:
    path = workspace.lake.bars(partition)
    try:
        return read_table(path) if path.is_file() else None
    except LakeError as error:
        # A file that cannot be read has not the schema; what is wrong with it stands where the schema's failures do.
        return pl.DataFrame({"unreadable": [str(error)]})


def _off_grid(workspace: Workspace, partition: Partition) -> GateResult:
    """Compare the rows off the grid with the calendar; a table that cannot be read fails the gate."""
    path = workspace.lake.exclusions(partition)
    try:
        rows = read_table(path) if path.is_file() else pl.DataFrame(schema=EXCLUSION_SCHEMA)
    except LakeError as error:
        return GateResult(
            OFF_GRID_GATE,
            passed=False,
            level=Level.WARNING,
            summary=str(error),
            file=workspace.lake.relative(path),
        )
    known = is_known(workspace.known_irregularities(partition), partition.interval, pl.col("cause"))
    rows = rows.filter(pl.col("cause") == str(Exclusion.OFF_GRID))
    unknown = rows.filter(~known)
    counts = {"known": rows.height - unknown.height, "unknown": unknown.height}
    remedy = "they are kept in bar_exclusions; list them as off_grid in gaps.irregularity_calendar once they are explained"
    return GateResult(
        OFF_GRID_GATE,
        passed=unknown.is_empty(),
        level=Level.WARNING,
        summary=f"{unknown.height:,} of {rows.height:,} rows off the grid are not listed; {remedy}"
        if unknown.height
        else "",
        values={"off_grid": counts},
        failing=unknown.select("open_time_us", "close_time_us", "shift_us", "source", "file").head(
            workspace.settings.gates.failing_rows_shown
        ),
        failing_count=unknown.height,
        file=workspace.lake.relative(path),
    )


def _checksums(workspace: Workspace, partition: Partition, bars: pl.DataFrame | None) -> GateResult:
    """Read every recorded raw file again and compare; what lies in quarantine is evidence, not raw data, and may be cleaned away."""
    lake = workspace.lake
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
            read_recorded(lake, path, digest)
        except LakeError as error:
            wrong.append({"file": path, "problem": error.what})
    failing = pl.DataFrame(wrong, schema={"file": pl.String, "problem": pl.String})
    if not recorded and bars is not None and bars.height:
        wrong.append(
            {
                "file": lake.relative(lake.raw(partition)),
                "problem": "there are bars, and no raw file is recorded",
            }
        )
    summary = (
        f"{len(wrong)} of {len(recorded)} raw files are not as recorded: {wrong[0]['file']}" if wrong else ""
    )
    return GateResult(
        CHECKSUM_GATE,
        not wrong,
        level=Level.CRITICAL,
        summary=summary,
        values={"files": len(recorded), "unverified": sum(record.unverified for record in archives.files)},
        failing=failing,
        failing_count=len(wrong),
        file=wrong[0]["file"] if wrong else "",
    )
