"""Waits between the attempts of a sensor."""

import pytest

from capture_pipeline.defs.shared import sensor_backoff
from capture_pipeline.defs.shared.sensor_backoff import LastAttempt

HOUR = 3_600_000_000
NOW = 1_700_000_000_000_000


def test_each_attempt_waits_twice_as_long_up_to_a_day() -> None:
    """The waits are 1, 2, 4, 8, 16 and 24 hours."""
    waits = [sensor_backoff.WAITS.wait_s(number) / 3600 for number in range(1, 9)]
    assert waits == [1, 2, 4, 8, 16, 24, 24, 24]
    assert sensor_backoff.WAITS.wait_s(10_000) == 24 * 3600


def test_what_waits_is_remembered_and_what_is_done_forgotten() -> None:
    """`a` waits, `b` is due again, `c` is new, `d` is not wanted any more."""
    before = sensor_backoff.Attempts(
        {
            "a": LastAttempt(1, NOW - HOUR // 2),
            "b": LastAttempt(2, NOW - 2 * HOUR),
            "d": LastAttempt(1, NOW - 9 * HOUR),
        }
    )
    due, after = before.select_due(["a", "b", "c"], NOW, 50)
    assert due == {"b": 3, "c": 1}
    assert after.by_key == {"a": (1, NOW - HOUR // 2), "b": (3, NOW), "c": (1, NOW)}


def test_hopeless_ones_never_keep_others_from_their_turn() -> None:
    """Keys with the fewest attempts come first; the others are not changed."""
    before = sensor_backoff.Attempts(dict.fromkeys(("a", "b", "c"), LastAttempt(5, NOW - 99 * HOUR)))
    due, after = before.select_due(["a", "b", "c", "x", "y", "z"], NOW, 2)
    assert due == {"x": 1, "y": 1}
    assert {key: after.by_key[key] for key in ("a", "b", "c")} == before.by_key
    due, _ = after.select_due(["a", "b", "c", "x", "y", "z"], NOW, 2)
    assert due == {"z": 1, "a": 6}


def test_memory_goes_through_the_cursor() -> None:
    before = sensor_backoff.Attempts({"2024-01|BTCUSDT": LastAttempt(3, NOW)})
    assert sensor_backoff.Attempts.load(before.dump()) == before


@pytest.mark.parametrize(
    "cursor", [None, "", "no json", "[]", "7", '{"a": 1}', '{"a": [1]}', '{"a": ["x", 2]}', '{"a": null}']
)
def test_a_cursor_of_another_kind_counts_as_none(cursor: str | None) -> None:
    """A sensor with an unreadable cursor starts without attempts instead of failing."""
    assert sensor_backoff.Attempts.load(cursor).by_key == {}


def test_a_clock_set_back_does_not_stop_the_attempts() -> None:
    """A time far in the future is as old as one far in the past."""
    due, _ = sensor_backoff.Attempts({"a": LastAttempt(1, NOW + 99 * HOUR)}).select_due(["a"], NOW, 50)
    assert due == {"a": 2}
