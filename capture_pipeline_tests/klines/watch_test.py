"""Search for partitions with ranges to request, compared with the rule for a single partition."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import DAY_US, HOUR_US, MINUTE_US, TimeRange
from capture_pipeline.binance.urls import Granularity
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.klines.ingest.rest_fill import find_ranges_to_request
from capture_pipeline.klines.pending_work import find_fillable
from capture_pipeline.klines.quality.ranges import Ranges, intersect
from capture_pipeline.lake.files import publish_model
from capture_pipeline.lake.manifests import ArchiveRecord, ArchivesManifest, TopupsManifest, TradingPeriod
from capture_pipeline.lake.parquet import publish_table
from capture_pipeline.lake.paths import Partition
from capture_pipeline.tables.klines.windows import WINDOWS
from capture_pipeline_tests.klines.remedies_test import MONTH, START, day, hour, page, span, trust
from capture_pipeline_tests.support.deployment import SandboxDeployment

FEBRUARY = {"CAPTURE_HISTORY_START": "2024-02-01", "CAPTURE_HISTORY_END": "2024-02-29"}


def monthly(state: Trust, holes: Ranges) -> ArchiveRecord:
    usable = state in {Trust.OK, Trust.PINNED}
    return ArchiveRecord(
        name="monthly", granularity=Granularity.MONTHLY, start_us=START, end_us=MONTH.end_us, trust=state,
        usable=usable, url="", fetched_at_us=0, checked_at_us=0,
        holes=intersect(holes, [(START, MONTH.end_us)]) if usable else [],
    )  # fmt: skip


def save(
    deployment: Deployment, part: Partition, archives: ArchivesManifest, topups: TopupsManifest, now_us: int
) -> None:
    publish_model(deployment.lake.archives_manifest(part), archives)
    publish_model(deployment.lake.topups_manifest(part), topups)
    window = {
        "start_us": START,
        "end_us": MONTH.end_us,
        "as_of_us": now_us,
        "expected": 0,
        "bars_sha256": "",
        "gaps_sha256": "",
    }
    publish_table(pl.DataFrame([window], schema=WINDOWS.schema), deployment.lake.window(part))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    month=st.none() | st.tuples(trust, st.lists(span, max_size=2)),
    days=st.dictionaries(st.integers(0, 28), trust, max_size=29),
    holes=st.lists(span, max_size=2),
    asked=st.lists(st.tuples(span, st.integers(0, 200)), max_size=3),
    age=st.sampled_from([-300, -1, 1, 26, 24 * 40]),
    trading_period=st.none() | st.tuples(st.none() | hour, st.none() | hour, st.booleans()),
    begun=st.booleans(),
)
def test_the_search_finds_what_the_rule_of_one_partition_says(
    month: tuple[Trust, Ranges] | None,
    days: dict[int, Trust],
    holes: Ranges,
    asked: list[tuple[tuple[int, int], int]],
    age: int,
    trading_period: tuple[int | None, int | None, bool] | None,
    begun: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """No partition is omitted because its files look complete, for random inputs."""
    deployment = SandboxDeployment(
        "http://127.0.0.1:1", tmp_path_factory.mktemp("watch"), **FEBRUARY
    ).deployment
    part = deployment.partition("BTCUSDT", MONTH)
    now_us = MONTH.end_us + age * HOUR_US
    files = [day(index, state, holes) for index, state in sorted(days.items())]
    archives = ArchivesManifest(files=[*([monthly(*month)] if month else []), *files])
    topups = TopupsManifest(
        pages=[page(range_, now_us - minutes * MINUTE_US, [TimeRange(*range_)]) for range_, minutes in asked]
    )
    known = None
    if trading_period is not None:
        first, last = (START + each * HOUR_US if each is not None else None for each in trading_period[:2])
        known = TradingPeriod(
            first_open_us=first,
            last_open_us=last,
            status="TRADING",
            checked_at_us=now_us,
            is_archive_only=trading_period[2],
        )
        publish_model(deployment.lake.trading_period_file(part.market, part.symbol, part.interval), known)
    save(deployment, part, archives, topups, now_us)
    if not begun:
        deployment.lake.window(part).unlink()

    found = find_fillable(deployment, now_us)

    ranges = find_ranges_to_request(
        part, archives, topups, trading_period=known, gaps=deployment.settings.gaps, now_us=now_us
    )
    assert found.damaged == {}
    assert found.partitions == (
        [part] if begun and any(start < now_us - DAY_US for start, _ in ranges) else []
    )


@pytest.mark.parametrize(
    ("state", "holes", "is_found"),
    [
        (Trust.OK, [], False),
        (Trust.OK, [(START, START + HOUR_US)], True),
        (Trust.OK, [(MONTH.end_us - HOUR_US, MONTH.end_us)], True),
        (Trust.MISMATCH, [], True),
    ],
)
def test_a_month_is_found_unless_a_usable_file_has_each_candle(
    state: Trust, holes: Ranges, is_found: bool, tmp_path: Path
) -> None:
    deployment = SandboxDeployment("http://127.0.0.1:1", tmp_path, **FEBRUARY).deployment
    part = deployment.partition("BTCUSDT", MONTH)
    now_us = MONTH.end_us + 40 * DAY_US
    save(deployment, part, ArchivesManifest(files=[monthly(state, holes)]), TopupsManifest(), now_us)
    assert find_fillable(deployment, now_us).partitions == ([part] if is_found else [])


@pytest.mark.parametrize("index", [0, 28])
def test_a_month_of_which_one_day_came_is_found(index: int, tmp_path: Path) -> None:
    deployment = SandboxDeployment("http://127.0.0.1:1", tmp_path, **FEBRUARY).deployment
    part = deployment.partition("BTCUSDT", MONTH)
    now_us = MONTH.end_us + 40 * DAY_US
    save(deployment, part, ArchivesManifest(files=[day(index, Trust.OK, [])]), TopupsManifest(), now_us)
    assert find_fillable(deployment, now_us).partitions == [part]
