"""Waits between the attempts of a sensor."""

from typing import Any

import dagster as dg
import pytest

from capture_pipeline_tests.support.dagster.stage import part

HOUR = 3_600_000_000
NOW = 1_700_000_000_000_000


@pytest.fixture
def attempts(definitions: dg.Definitions) -> Any:
    """Return the module, as loaded for these tests."""
    del definitions
    return part("shared.sensor_backoff")


def test_each_attempt_waits_twice_as_long_up_to_a_day(attempts: Any) -> None:
    """The waits are 1, 2, 4, 8, 16 and 24 hours."""
    assert [attempts.wait_us(number) // HOUR for number in range(1, 9)] == [1, 2, 4, 8, 16, 24, 24, 24]
    assert attempts.wait_us(10_000) == 24 * HOUR


def test_what_waits_is_remembered_and_what_is_done_forgotten(attempts: Any) -> None:
    """`a` waits, `b` is due again, `c` is new, `d` is not wanted any more."""
    before = attempts.Attempts(
        {"a": (1, NOW - HOUR // 2), "b": (2, NOW - 2 * HOUR), "d": (1, NOW - 9 * HOUR)}
    )
    due, after = before.select_due(["a", "b", "c"], NOW, 50)
    assert due == {"b": 3, "c": 1}
    assert after.by_key == {"a": (1, NOW - HOUR // 2), "b": (3, NOW), "c": (1, NOW)}


def test_hopeless_ones_never_keep_others_from_their_turn(attempts: Any) -> None:
    """Keys with the fewest attempts come first; the others are not changed."""
    before = attempts.Attempts(dict.fromkeys(("a", "b", "c"), (5, NOW - 99 * HOUR)))
    due, after = before.select_due(["a", "b", "c", "x", "y", "z"], NOW, 2)
    assert due == {"x": 1, "y": 1}
    assert {key: after.by_key[key] for key in ("a", "b", "c")} == before.by_key
    due, _ = after.select_due(["a", "b", "c", "x", "y", "z"], NOW, 2)
    assert due == {"z": 1, "a": 6}


def test_memory_goes_through_the_cursor(attempts: Any) -> None:
    before = attempts.Attempts({"2024-01|BTCUSDT": (3, NOW)})
    assert attempts.Attempts.load(before.dump()) == before


@pytest.mark.parametrize(
    "cursor", [None, "", "no json", "[]", "7", '{"a": 1}', '{"a": [1]}', '{"a": ["x", 2]}', '{"a": null}']
)
def test_a_cursor_of_another_kind_counts_as_none(cursor: str | None, attempts: Any) -> None:
    """A sensor with an unreadable cursor starts without attempts instead of failing."""
    assert attempts.Attempts.load(cursor).by_key == {}


def test_a_clock_set_back_does_not_stop_the_attempts(attempts: Any) -> None:
    """A time far in the future is as old as one far in the past."""
    due, _ = attempts.Attempts({"a": (1, NOW + 99 * HOUR)}).select_due(["a"], NOW, 50)
    assert due == {"a": 2}
