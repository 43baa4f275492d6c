"""Records of a top-up: times of requests, and answers whose files are present."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capture_pipeline.binance.archive.klines.parser import parse_rest
from capture_pipeline.binance.periods import HOUR_US, MINUTE_US, Interval, Month, parse_time
from capture_pipeline.deployment.deployment import Workspace
from capture_pipeline.errors import CaptureError, MalformedDataError
from capture_pipeline.klines.bars import build_bars
from capture_pipeline.klines.gaps import find_gaps
from capture_pipeline.klines.ingest.archives import fetch_archives
from capture_pipeline.klines.ingest.rest_fill import TopupResult, fill_from_rest, select_closed
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import TopupsManifest
from capture_pipeline.lake.paths import Partition
from capture_pipeline_tests.deployment import Deployment, deployed
from capture_pipeline_tests.frames import START_US, klines

HOLE = {"start": "2025-01-10T03:00:00Z", "end": "2025-01-10T06:00:00Z"}


def january(workspace: Workspace) -> Partition:
    return workspace.partition("BTCUSDT", Month(2025, 1))


def fill(workspace: Workspace, now_us: int | None = None) -> TopupResult:
    now_us = now_us or workspace.rest.server_time_us()
    fetch_archives(workspace, january(workspace), now_us)
    return fill_from_rest(workspace, january(workspace), now_us)


def recorded(workspace: Workspace) -> TopupsManifest | None:
    return read_model(workspace.lake.topups_manifest(january(workspace)), TopupsManifest)


def test_answers_that_came_seconds_apart_prove_nothing_however_long_a_run_took(tmp_path: Path) -> None:
    """The two requests are one sighting.

    The first run starts forty minutes before its request, and the second run follows directly.
    """
    with deployed(tmp_path, {"outages": [HOLE]}) as deployment:
        workspace = deployment.workspace
        began = workspace.rest.server_time_us()
        deployment.clock(advance_s=2400)
        first = fill(workspace, began)
        assert [page.asked_at_us - page.server_time_us for page in first.manifest.pages] == [40 * MINUTE_US]
        assert fill(workspace).pages == 0
        deployment.clock(advance_s=1799)
        assert fill(workspace).pages == 0
        deployment.clock(advance_s=1)
        assert fill(workspace).pages == 1
        build_bars(workspace, january(workspace))
        (row,) = find_gaps(workspace, january(workspace), workspace.rest.server_time_us()).gaps.rows(
            named=True
        )
        assert (row["bars"], row["verified_nonexistent"], row["attempts"]) == (3, True, 2)


def test_a_request_that_waited_long_counts_from_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is read after the answer, because a request may wait before it is answered."""
    with deployed(tmp_path, {"outages": [HOLE]}) as deployment:
        workspace = deployment.workspace
        ask = workspace.rest.klines

        def slow(*page: Any) -> bytes:
            deployment.clock(advance_s=2400)
            return ask(*page)

        with monkeypatch.context() as slowed:
            slowed.setattr(workspace.rest, "klines", slow)
            fill(workspace)
        assert fill(workspace).pages == 0


def test_the_clock_is_read_for_holes_only(deployment: Deployment) -> None:
    """A complete answer costs one request."""
    workspace = deployment.workspace
    part = workspace.partition("BTCUSDT", Month(2025, 2))
    now_us = workspace.rest.server_time_us()
    deployment.forget_requests()
    assert fill_from_rest(workspace, part, now_us).pages == 1
    assert not [entry for entry in deployment.requests() if entry["path"].endswith("/time")]


def test_a_lost_answer_leaves_the_manifest_even_where_it_is_not_asked_for_again(tmp_path: Path) -> None:
    """An archive file has its klines, or their absence is proven. The bars can be built again."""
    with deployed(tmp_path) as deployment:
        workspace = deployment.workspace
        fill_from_rest(workspace, january(workspace), workspace.rest.server_time_us())
        (page,) = fill(workspace).manifest.pages
        workspace.lake.resolve(page.path).unlink()
        assert fill(workspace).pages == 0
        assert recorded(workspace) == TopupsManifest()
        assert build_bars(workspace, january(workspace))[0].by_source == {"monthly": 744}


def test_a_lost_answer_is_replaced_by_the_one_asked_for_instead(deployment: Deployment) -> None:
    """The number of answers is the same, but one answer is new."""
    workspace = deployment.workspace
    (lost,) = fill_from_rest(workspace, january(workspace), parse_time("2025-01-31T00:00:00Z")).manifest.pages
    workspace.lake.resolve(lost.path).unlink()
    result = fill_from_rest(workspace, january(workspace), workspace.rest.server_time_us())
    assert (result.pages, result.still_missing) == (1, 0)
    assert recorded(workspace) == result.manifest


def test_an_answer_with_a_hole_and_no_time_is_asked_for_again(tmp_path: Path) -> None:
    """Without the time of its request, the answer is no sighting. The run ends with an error."""
    with deployed(tmp_path, {"outages": [HOLE]}) as deployment:
        workspace = deployment.workspace
        now_us = workspace.rest.server_time_us()
        deployment.faults({"match": {"path": "/api/v3/time"}, "fault": "status_500", "times": "always"})
        with pytest.raises(CaptureError, match="time"):
            fill(workspace, now_us)
        deployment.faults()
        assert recorded(workspace) is None
        assert fill(workspace, now_us + HOUR_US).pages == 1


@pytest.mark.parametrize("depth", [500, 900, 2_000, 100_000])
@pytest.mark.parametrize("around", ["{}", "[{}]", "[[{}]]", "[[0,{},0,0,0,0,0,0,0,0,0,0]]"])
def test_an_answer_nested_deep_is_malformed(depth: int, around: str) -> None:
    """The answer is rejected like any other that is not an array of klines."""
    body = around.replace("{}", "[" * depth + "]" * depth).encode()
    with pytest.raises(MalformedDataError, match="klines"):
        parse_rest(body, "klines")


@pytest.mark.parametrize(("late_us", "count"), [(-1, 8), (0, 9), (1, 9)])
def test_candle_is_finished_once_its_interval_is_over(late_us: int, count: int) -> None:
    """The time of the answer decides: a kline that was open then is not a bar."""
    rows = select_closed(klines(12), Interval.M1, START_US + 9 * MINUTE_US + late_us)
    assert rows["open_time_us"].to_list() == [START_US + minute * MINUTE_US for minute in range(count)]
