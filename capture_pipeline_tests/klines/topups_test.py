"""Records of a top-up: times of requests, and answers whose files are present."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capture_pipeline.binance.archive.klines.parser import parse_rest
from capture_pipeline.binance.periods import HOUR_US, MINUTE_US, Interval, Month, parse_time
from capture_pipeline.deployment.deployment import Deployment
from capture_pipeline.errors import CaptureError, MalformedDataError
from capture_pipeline.klines.bars import build_bars
from capture_pipeline.klines.gaps import find_gaps
from capture_pipeline.klines.ingest.archives import fetch_archives
from capture_pipeline.klines.ingest.rest_fill import TopupResult, fill_from_rest, select_closed
from capture_pipeline.lake.files import read_model
from capture_pipeline.lake.manifests import TopupsManifest
from capture_pipeline.lake.paths import Partition
from capture_pipeline_tests.support.deployment import SandboxDeployment, run_sandbox_deployment
from capture_pipeline_tests.support.frames import START_US, klines

HOLE = {"start": "2025-01-10T03:00:00Z", "end": "2025-01-10T06:00:00Z"}


def january(deployment: Deployment) -> Partition:
    return deployment.partition("BTCUSDT", Month(2025, 1))


def fill(deployment: Deployment, now_us: int | None = None) -> TopupResult:
    now_us = now_us or deployment.rest.server_time_us()
    fetch_archives(deployment, january(deployment), now_us)
    return fill_from_rest(deployment, january(deployment), now_us)


def recorded(deployment: Deployment) -> TopupsManifest | None:
    return read_model(deployment.lake.topups_manifest(january(deployment)), TopupsManifest)


def test_answers_that_came_seconds_apart_prove_nothing_however_long_a_run_took(tmp_path: Path) -> None:
    """The two requests are one sighting.

    The first run starts forty minutes before its request, and the second run follows directly.
    """
    with run_sandbox_deployment(tmp_path, {"outages": [HOLE]}) as sandbox:
        deployment = sandbox.deployment
        began = deployment.rest.server_time_us()
        sandbox.clock(advance_s=2400)
        first = fill(deployment, began)
        assert [page.asked_at_us - page.server_time_us for page in first.manifest.pages] == [40 * MINUTE_US]
        assert fill(deployment).pages == 0
        sandbox.clock(advance_s=1799)
        assert fill(deployment).pages == 0
        sandbox.clock(advance_s=1)
        assert fill(deployment).pages == 1
        build_bars(deployment, january(deployment))
        (row,) = find_gaps(deployment, january(deployment), deployment.rest.server_time_us()).gaps.rows(
            named=True
        )
        assert (row["bars"], row["verified_nonexistent"], row["attempts"]) == (3, True, 2)


def test_a_request_that_waited_long_counts_from_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is read after the answer, because a request may wait before it is answered."""
    with run_sandbox_deployment(tmp_path, {"outages": [HOLE]}) as sandbox:
        deployment = sandbox.deployment
        ask = deployment.rest.klines

        def slow(*page: Any) -> bytes:
            sandbox.clock(advance_s=2400)
            return ask(*page)

        with monkeypatch.context() as slowed:
            slowed.setattr(deployment.rest, "klines", slow)
            fill(deployment)
        assert fill(deployment).pages == 0


def test_the_clock_is_read_for_holes_only(sandbox: SandboxDeployment) -> None:
    """A complete answer costs one request."""
    deployment = sandbox.deployment
    part = deployment.partition("BTCUSDT", Month(2025, 2))
    now_us = deployment.rest.server_time_us()
    sandbox.forget_requests()
    assert fill_from_rest(deployment, part, now_us).pages == 1
    assert not [entry for entry in sandbox.requests() if entry["path"].endswith("/time")]


def test_a_lost_answer_leaves_the_manifest_even_where_it_is_not_asked_for_again(tmp_path: Path) -> None:
    """An archive file has its klines, or their absence is proven. The bars can be built again."""
    with run_sandbox_deployment(tmp_path) as sandbox:
        deployment = sandbox.deployment
        fill_from_rest(deployment, january(deployment), deployment.rest.server_time_us())
        (page,) = fill(deployment).manifest.pages
        deployment.lake.resolve(page.path).unlink()
        assert fill(deployment).pages == 0
        assert recorded(deployment) == TopupsManifest()
        assert build_bars(deployment, january(deployment))[0].by_source == {"monthly": 744}


def test_a_lost_answer_is_replaced_by_the_one_asked_for_instead(sandbox: SandboxDeployment) -> None:
    """The number of answers is the same, but one answer is new."""
    deployment = sandbox.deployment
    (lost,) = fill_from_rest(
        deployment, january(deployment), parse_time("2025-01-31T00:00:00Z")
    ).manifest.pages
    deployment.lake.resolve(lost.path).unlink()
    result = fill_from_rest(deployment, january(deployment), deployment.rest.server_time_us())
    assert (result.pages, result.still_missing) == (1, 0)
    assert recorded(deployment) == result.manifest


def test_an_answer_with_a_hole_and_no_time_is_asked_for_again(tmp_path: Path) -> None:
    """Without the time of its request, the answer is no sighting. The run ends with an error."""
    with run_sandbox_deployment(tmp_path, {"outages": [HOLE]}) as sandbox:
        deployment = sandbox.deployment
        now_us = deployment.rest.server_time_us()
        sandbox.faults({"match": {"path": "/api/v3/time"}, "fault": "status_500", "times": "always"})
        with pytest.raises(CaptureError, match="time"):
            fill(deployment, now_us)
        sandbox.faults()
        assert recorded(deployment) is None
        assert fill(deployment, now_us + HOUR_US).pages == 1


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
