"""Build of the gap ledger `bar_gaps`: missing bars of a partition with their causes, and filled gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from capture_pipeline.binance.periods import HOUR_US, MINUTE_US, SECOND_US, TimeRange
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.deployment.lake_guard import lock_partition
from capture_pipeline.errors import LakeError
from capture_pipeline.klines.ingest.rest_fill import closed_end_us, find_ranges_to_request
from capture_pipeline.klines.ingest.trading_period import find_trading_range, load_trading_period
from capture_pipeline.klines.quality.gaps import Evidence, KnownGap, explain_gaps, find_filled_gaps
from capture_pipeline.klines.quality.ranges import Ranges, find_present, subtract, sum_lengths, union
from capture_pipeline.lake.files import read_model, sha256_file
from capture_pipeline.lake.manifests import ArchivesManifest, TopupsManifest
from capture_pipeline.lake.parquet import publish_table, read_table
from capture_pipeline.lake.paths import Partition
from capture_pipeline.tables.klines.bars import SOURCES, Irregularity
from capture_pipeline.tables.klines.exclusions import Exclusion
from capture_pipeline.tables.klines.gaps import EXPLAINED, GAPS, NOT_EXPECTED, Cause, GapStatus
from capture_pipeline.tables.klines.windows import WINDOWS
from capture_pipeline.terminal import logger

_log = logger(__name__)


@dataclass(frozen=True)
class GapsResult:
    """Gap ledger of one partition. All counts are numbers of bars.

    Attributes:
        partition: The partition.
        gaps: Open and filled gaps, a frame of `GAPS`.
        expected: Expected bars.
        fillable: Missing bars that can be requested from REST now.
    """

    partition: Partition
    gaps: pl.DataFrame
    expected: int
    fillable: int

    @property
    def open(self) -> pl.DataFrame:
        """Gaps that are not filled."""
        return self.gaps.filter(pl.col("status") == str(GapStatus.OPEN))

    @property
    def missing(self) -> int:
        """Bars that are expected and not present."""
        return int(
            self.open.filter(~pl.col("cause").is_in([str(cause) for cause in NOT_EXPECTED]))["bars"].sum()
        )

    @property
    def suspended(self) -> int:
        """Bars that are not expected because the symbol was suspended."""
        return self._open_of(Cause.SUSPENDED)

    @property
    def attainable(self) -> int:
        """Expected bars, without those whose absence has a known cause."""
        return self.expected - sum(self._open_of(cause) for cause in EXPLAINED - NOT_EXPECTED)

    def _open_of(self, cause: Cause) -> int:
        return int(self.open.filter(pl.col("cause") == str(cause))["bars"].sum())

    @property
    def unexplained(self) -> int:
        """Missing bars without a known cause."""
        return int(self.open.filter(~pl.col("explained"))["bars"].sum())


def update_gaps(deployment: Deployment, partition: Partition, now_us: int) -> GapsResult:
    """Compute and publish the gap ledger of one partition under its lock; see `find_gaps`.

    Raises:
        BusyError: Another run had the lock of this partition for `LOCK_TIMEOUT_S`.
        ConfigError: The lake belongs to another exchange, so `now_us` is not the time of its data.
        CaptureError: A manifest or table is damaged, or a file cannot be written.
    """
    with lock_partition(deployment, partition):
        return find_gaps(deployment, partition, now_us)


def find_gaps(
    deployment: Deployment, partition: Partition, now_us: int, bars: pl.DataFrame | None = None
) -> GapsResult:
    """Compute and publish the gap ledger of one partition from its bars and manifests, without a request.

    Args:
        partition: The partition; the caller has its lock.
        now_us: The present time.
        bars: The published bars; None to read them from the lake.

    Raises:
        CaptureError: A manifest or table is damaged, or a file cannot be written.
    """
    lake, step = deployment.lake, partition.interval.us
    archives = read_model(lake.archives_manifest(partition), ArchivesManifest) or ArchivesManifest()
    topups = read_model(lake.topups_manifest(partition), TopupsManifest) or TopupsManifest()
    trading_period = load_trading_period(deployment, partition.symbol)
    trading = find_trading_range(trading_period, partition, archives)
    whole = TimeRange(partition.month.start_us, closed_end_us(partition, now_us))
    outages = [
        outage for outage in deployment.outages if outage.applies_to(partition.market, partition.symbol)
    ]
    settings = deployment.settings.gaps
    requested, later = (
        find_ranges_to_request(
            partition,
            archives,
            topups,
            trading_period=trading_period,
            gaps=settings,
            now_us=now_us + minutes * MINUTE_US,
        )
        for minutes in (0, settings.sighting_minutes)
    )
    off_grid = _read_off_grid(deployment, partition)
    listed = [
        TimeRange(each.start_us, each.end_us)
        for each in deployment.known_irregularities(partition)
        if Irregularity.OFF_GRID in each.kinds
    ]
    evidence = Evidence(
        step,
        trading,
        now_us,
        outages,
        topups.pages,
        archives.files,
        settings,
        off_grid.ranges,
        listed,
        off_grid.shift,
        requested,
        later,
    )
    sources = _find_source_ranges(deployment, partition, whole, bars)
    missing = subtract([whole], [each for ranges in sources.values() for each in ranges])
    omitted = [KnownGap(Cause.ARCHIVE_OMISSION, hole) for record in archives.files for hole in record.holes]
    gaps = explain_gaps(missing, evidence) + find_filled_gaps(
        [*omitted, *_read_previous_gaps(deployment, partition)], sources, evidence
    )
    rows = sorted((gap.row(step) for gap in gaps), key=lambda row: (row["start_us"], row["status"]))
    frame = pl.DataFrame(rows, schema=GAPS.schema)
    not_expected = sum(
        gap.end_us - gap.start_us for gap in gaps if gap.cause in NOT_EXPECTED and not gap.filled_by
    )
    expected = (sum_lengths([whole]) - not_expected) // step
    window = {"start_us": whole.start_us, "end_us": whole.end_us, "as_of_us": now_us, "expected": expected}
    path = lake.bars(partition)
    digests = {
        "bars_sha256": sha256_file(path) if path.is_file() else "",
        "gaps_sha256": publish_table(frame, lake.gaps(partition)).sha256,
    }
    publish_table(pl.DataFrame([{**window, **digests}], schema=WINDOWS.schema), lake.window(partition))
    return GapsResult(partition, frame, expected, sum_lengths(requested) // step if missing else 0)


def _find_source_ranges(
    deployment: Deployment, partition: Partition, whole: TimeRange, bars: pl.DataFrame | None
) -> dict[str, Ranges]:
    path = deployment.lake.bars(partition)
    if bars is None and not path.is_file():
        return {}
    bars = (
        read_table(path, ["open_time_us", "source"])
        if bars is None
        else bars.select("open_time_us", "source")
    )
    opens = {source: bars["open_time_us"].filter(bars["source"] == source).to_numpy() for source in SOURCES}
    return {
        source: find_present(found, partition.interval.us, whole)
        for source, found in opens.items()
        if found.size
    }


class _OffGrid(NamedTuple):
    """Times of klines that open off the grid, and the text of their least and greatest shift."""

    ranges: Ranges
    shift: str


def _read_off_grid(deployment: Deployment, partition: Partition) -> _OffGrid:
    path = deployment.lake.exclusions(partition)
    if not path.is_file():
        return _OffGrid([], "")
    table = read_table(path, ["open_time_us", "close_time_us", "cause", "shift_us"]).filter(
        pl.col("cause") == str(Exclusion.OFF_GRID)
    )
    opened, step = pl.col("open_time_us"), partition.interval.us
    times = table.select(opened, (pl.col("close_time_us") + 1).clip(opened + 1, opened + step))
    bounds = table["shift_us"].min(), table["shift_us"].max()
    shifts = [_format_duration(shift_us) for shift_us in bounds if isinstance(shift_us, int)]
    return _OffGrid(union(times.iter_rows()), " to ".join(dict.fromkeys(shifts)))


def _format_duration(duration_us: int) -> str:
    """Format a duration, for instance `28 min 14.789 s`."""
    hours, rest = divmod(duration_us, HOUR_US)
    minutes, rest = divmod(rest, MINUTE_US)
    seconds = f"{rest / SECOND_US:.6f}".rstrip("0").rstrip(".")
    parts = ((f"{hours} h", hours), (f"{minutes} min", minutes), (f"{seconds} s", rest))
    return " ".join(text for text, amount in parts if amount)


def _read_previous_gaps(deployment: Deployment, partition: Partition) -> list[KnownGap]:
    """Read the causes and ranges of the published ledger, without ranges in which no bar is expected."""
    path = deployment.lake.gaps(partition)
    if not path.is_file():
        return []
    try:
        table = read_table(path, ["start_us", "end_us", "cause"])
    except LakeError as error:
        _log.warning("the previous gap ledger cannot be read, so its filled gaps are lost: %s", error)
        return []
    earlier = [KnownGap(Cause(cause), TimeRange(start, end)) for start, end, cause in table.iter_rows()]
    return [gap for gap in earlier if gap.cause not in NOT_EXPECTED]
