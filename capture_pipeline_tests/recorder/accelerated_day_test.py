"""Half an hour of the market in seconds, with repeated faults: a short `make accelerated-day`."""

from __future__ import annotations

from pathlib import Path

import pytest

from capture_pipeline_tests.soak.day import Pace, everything_at_once, one_at_a_time

pytestmark = pytest.mark.slow
HALF_AN_HOUR = Pace(hours=0.5, speed=450, cuts=2, queue_mb=2)


def test_half_an_hour_in_which_one_connection_at_a_time_is_lost_loses_nothing(tmp_path: Path) -> None:
    """Each of two connections is cut once, and one close is announced."""
    account = one_at_a_time(tmp_path, HALF_AN_HOUR)
    assert not account.wrong
    assert account.messages > 20_000


def test_half_an_hour_in_which_everything_is_lost_four_times_lists_what_is_missing(tmp_path: Path) -> None:
    """Two kills, a full disk, and both connections cut: persisted == sent − ledger."""
    account = everything_at_once(tmp_path, HALF_AN_HOUR)
    assert not account.wrong
    assert account.outages == ["kill -9", "disk full", "kill -9", "both connections cut"]
