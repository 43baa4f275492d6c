"""Remedies in the gap ledger: a top-up is named exactly if it would send a request."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import DAY_US, HOUR_US, MINUTE_US, Month, TimeRange
from capture_pipeline.binance.urls import Granularity
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.gaps import find_gaps
from capture_pipeline.klines.ingest.rest_fill import find_ranges_to_request
from capture_pipeline.klines.quality.ranges import (
    Ranges,
    find_missing,
    find_present,
    intersect,
    subtract,
    union,
)
from capture_pipeline.lake.files import publish_model
from capture_pipeline.lake.manifests import (
    ArchiveRecord,
    ArchivesManifest,
    RestPage,
    TopupsManifest,
    TradingPeriod,
)
from capture_pipeline.lake.parquet import publish_table
from capture_pipeline.lake.paths import Partition
from capture_pipeline.tables.klines.bars import BARS
from capture_pipeline.tables.klines.exclusions import EXCLUSIONS
from capture_pipeline_tests.support.deployment import SandboxDeployment

MONTH = Month(2024, 2)
START = MONTH.start_us
HOURS = 29 * 24
hour = st.integers(0, HOURS - 1)
span = st.tuples(hour, st.integers(1, 60)).map(
    lambda each: (START + each[0] * HOUR_US, START + min(HOURS, each[0] + each[1]) * HOUR_US)
)
trust = st.sampled_from(
    [Trust.OK, Trust.PINNED, Trust.MISMATCH, Trust.MALFORMED, Trust.CHECKSUM_MISSING, Trust.NOT_PUBLISHED]
)


def frame(opens: np.ndarray, schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """Return rows whose values are not used, only their times."""
    values = {"open_time_us": opens, "close_time_us": opens + HOUR_US - 1000, "shift_us": opens % HOUR_US}
    texts = {"time_unit": "ms", "source": "monthly", "cause": "off_grid", "file": "f"}
    series = [values.get(name, texts.get(name, 1)) for name in schema]
    columns = [
        pl.Series(name, each) if isinstance(each, np.ndarray) else pl.lit(each).alias(name)
        for name, each in zip(schema, series, strict=True)
    ]
    return pl.select(columns).cast(pl.Schema(schema)) if opens.size else pl.DataFrame(schema=schema)


def day(index: int, state: Trust, holes: Ranges) -> ArchiveRecord:
    start = START + index * DAY_US
    usable = state in {Trust.OK, Trust.PINNED}
    times = {"first_open_us": start, "last_open_us": start + 23 * HOUR_US} if usable else {}
    left = intersect(holes, [(start, start + DAY_US)]) if usable else []
    return ArchiveRecord(
        name=f"{index}", granularity=Granularity.DAILY, start_us=start, end_us=start + DAY_US, trust=state,
        usable=usable, url="", fetched_at_us=0, checked_at_us=0, holes=left, **times,
    )  # fmt: skip


def page(asked: tuple[int, int], at: int, there: Ranges) -> RestPage:
    return RestPage(
        asked_start_us=asked[0], asked_end_us=asked[1], server_time_us=at, answered_end_us=asked[1], url="",
        path="", sha256="", rows=0, present=intersect([asked], there),
    )  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.dictionaries(st.integers(0, 28), trust, max_size=6),
    holes=st.lists(span, max_size=3),
    asked=st.lists(st.tuples(span, st.integers(0, 200)), max_size=4),
    shifted=st.lists(span, max_size=2),
    age=st.sampled_from([1, 26, 90, 24 * 40]),
    trading_period=st.one_of(st.none(), st.tuples(st.one_of(st.none(), hour), st.one_of(st.none(), hour))),
)
def test_a_top_up_is_named_exactly_where_it_sends_a_request(
    days: dict[int, Trust],
    holes: list[tuple[int, int]],
    asked: list[tuple[tuple[int, int], int]],
    shifted: list[tuple[int, int]],
    age: int,
    trading_period: tuple[int | None, int | None] | None,
    tmp_path_factory: object,
) -> None:
    """The details of gaps agree with the requests of a top-up, now and half an hour later."""
    root = Path(tmp_path_factory.mktemp("remedies"))  # type: ignore[attr-defined]
    deployment = SandboxDeployment("http://127.0.0.1:1", root).deployment
    part = deployment.partition("BTCUSDT", MONTH)
    now_us = MONTH.end_us + age * HOUR_US
    absent = union(holes, shifted)
    archives = ArchivesManifest(files=[day(index, state, absent) for index, state in sorted(days.items())])
    there = subtract([(START, MONTH.end_us)], absent)
    topups = TopupsManifest(
        pages=[page(range_, now_us - minutes * MINUTE_US, there) for range_, minutes in asked]
    )
    known = None
    if trading_period is not None:
        first, last = (START + each * HOUR_US if each is not None else None for each in trading_period)
        known = TradingPeriod(first_open_us=first, last_open_us=last, status="TRADING", checked_at_us=now_us)
        publish_model(deployment.lake.trading_period_file(part.market, part.symbol, part.interval), known)
    save(deployment, part, archives, topups, [TimeRange(*each) for each in shifted])

    result = find_gaps(deployment, part, now_us)

    def next_asked(at_us: int) -> Ranges:
        return find_ranges_to_request(
            part, archives, topups, trading_period=known, gaps=deployment.settings.gaps, now_us=at_us
        )

    later = now_us + (deployment.settings.gaps.sighting_minutes + 1) * MINUTE_US
    for gap in result.open.iter_rows(named=True):
        whole = (gap["start_us"], gap["end_us"])
        if "run a top-up" in gap["detail"]:
            assert intersect([whole], next_asked(now_us)) == [whole], gap
        elif "a top-up" in gap["detail"]:
            assert intersect([whole], next_asked(later)) == [whole], gap
        elif gap["cause"] == "ours":
            assert intersect([whole], next_asked(now_us)) == [], gap
    assert (
        result.fillable == sum(end - start for start, end in next_asked(now_us)) // HOUR_US
        or not result.open.height
    )


def save(
    deployment: Deployment,
    part: Partition,
    archives: ArchivesManifest,
    topups: TopupsManifest,
    shifted: Ranges,
) -> None:
    """Write manifests, the bars that follow from them, and rows off the grid."""
    lake = deployment.lake
    publish_model(lake.archives_manifest(part), archives)
    publish_model(lake.topups_manifest(part), topups)
    held = union(
        *(subtract([(record.start_us, record.end_us)], record.holes) for record in archives.usable()),
        *(each.present for each in topups.pages),
    )
    opens = np.array([at for start, end in held for at in range(start, end, HOUR_US)], np.int64)
    publish_table(frame(opens, BARS.schema), lake.bars(part))
    off = np.array(
        [at + 7 * MINUTE_US for start, end in union(shifted) for at in range(start, end, HOUR_US)], np.int64
    )
    if off.size:
        publish_table(frame(off, EXCLUSIONS.schema), lake.exclusions(part))


@given(st.lists(st.integers(0, 6 * HOUR_US - 1), max_size=8), st.integers(0, HOUR_US - 1))
def test_presence_counts_open_times_on_the_grid_alone(opens: list[int], start: int) -> None:
    """The same holds for a range that starts off the grid."""
    times = np.array(opens, np.int64)
    expected = [(at, at + HOUR_US) for at in sorted(set(opens)) if at % HOUR_US == 0 and at >= start]
    whole = TimeRange(start, 6 * HOUR_US)
    assert find_present(times, HOUR_US, whole) == union(expected)
    assert find_missing(times, HOUR_US, whole) == subtract([whole], expected)
