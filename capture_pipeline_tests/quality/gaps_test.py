"""Explaining gaps: each missing range gets exactly one cause, and absence is verified only by answers far enough apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.binance.archive import Trust
from capture_pipeline.binance.periods import DAY_US, HOUR_US, MINUTE_US, parse_time
from capture_pipeline.binance.urls import Granularity, Market
from capture_pipeline.config import Gaps
from capture_pipeline.lake.manifests import ArchiveRecord, RestPage
from capture_pipeline.quality.gaps import Evidence, explain, filled
from capture_pipeline.quality.outages import Outage, load_calendar
from capture_pipeline.quality.ranges import Ranges, union
from capture_pipeline.quality.sightings import nonexistent, seen_recently
from capture_pipeline.tables.gaps import Cause

DAY = parse_time("2024-03-01")
NOW = DAY + 20 * DAY_US


def page(start: int, end: int, at: int, present: Ranges | None = None) -> RestPage:
    return RestPage(
        asked_start_us=start,
        asked_end_us=end,
        server_time_us=at,
        answered_end_us=end,
        url="",
        path="",
        sha256="",
        rows=0,
        present=present or [],
    )


def evidence(**known: object) -> Evidence:
    given_known: dict[str, object] = {
        "step_us": MINUTE_US,
        "trading": (DAY, DAY + 31 * DAY_US),
        "now_us": NOW,
        "outages": [],
        "pages": [],
        "archives": [],
        "settings": Gaps(),
        **known,
    }
    return Evidence(**given_known)  # type: ignore[arg-type]


HOLE = (DAY + HOUR_US, DAY + HOUR_US + 5 * MINUTE_US)
TWICE = [page(*HOLE, NOW - 2 * HOUR_US), page(*HOLE, NOW - HOUR_US)]


@pytest.mark.parametrize(
    ("cause", "verified", "known"),
    [
        (Cause.BEFORE_LISTING, False, {"trading": (DAY + DAY_US, DAY + 31 * DAY_US)}),
        (Cause.AFTER_DELISTING, False, {"trading": (DAY, DAY + MINUTE_US)}),
        (Cause.EXCHANGE_OUTAGE, False, {"outages": [Outage(*HOLE, "outage")]}),
        (Cause.EXCHANGE_OUTAGE, False, {"outages": [Outage(HOLE[0] + 30_000_000, HOLE[1] - 30_000_000, "parts of minutes count")]}),
        (Cause.EXCHANGE_OUTAGE, True, {"outages": [Outage(HOLE[1], HOLE[1] + HOUR_US, "its edge")], "pages": TWICE}),
        (Cause.OURS, False, {"outages": [Outage(HOLE[1], HOLE[1] + HOUR_US, "an edge needs proof")]}),
        (Cause.UNKNOWN, False, {"pages": TWICE[:1]}),
        (Cause.UNKNOWN, True, {"pages": TWICE}),
        (Cause.OURS, False, {}),
        (Cause.NOT_YET_PUBLISHED, False, {"now_us": HOLE[1] + HOUR_US}),
    ],
)
def test_a_hole_gets_the_cause_that_the_evidence_shows(cause: Cause, verified: bool, known: dict[str, object]) -> None:
    """The first cause that holds, in a fixed order."""
    gaps = explain([HOLE], evidence(**known))
    assert [(gap.start_us, gap.end_us, gap.cause, gap.verified_nonexistent) for gap in gaps] == [(*HOLE, cause, verified)]


def test_a_quarantined_file_makes_its_hole_ours() -> None:
    """Also where the hole is recent."""
    record = ArchiveRecord(
        name="x",
        granularity=Granularity.DAILY,
        start_us=DAY,
        end_us=DAY + DAY_US,
        trust=Trust.MISMATCH,
        url="",
        fetched_at_us=0,
        checked_at_us=0,
    )
    (gap,) = explain([HOLE], evidence(archives=[record], now_us=HOLE[1] + HOUR_US))
    assert gap.cause is Cause.OURS
    assert "quarantined" in gap.detail


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 9)), max_size=6),
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 30)), max_size=4),
)
def test_rows_make_up_exactly_what_is_missing(holes: list[tuple[int, int]], outages: list[tuple[int, int]]) -> None:
    """Split where the cause changes, none lost and none twice."""
    missing = union([(DAY + start * MINUTE_US, DAY + (start + count) * MINUTE_US) for start, count in holes])
    listed = [Outage(DAY + start * MINUTE_US, DAY + (start + count) * MINUTE_US, "made") for start, count in outages]
    gaps = explain(missing, evidence(outages=listed))
    assert union([(gap.start_us, gap.end_us) for gap in gaps]) == missing
    assert sum(gap.end_us - gap.start_us for gap in gaps) == sum(end - start for start, end in missing)


@pytest.mark.parametrize(
    ("minutes", "verified"),
    [([0], False), ([0, 29], False), ([0, 30], True), ([0, 10, 20, 29], False), ([0, 10, 20, 30], True), ([0, 20, 40], True)],
)
def test_absence_is_verified_by_two_sightings_thirty_minutes_apart(minutes: list[int], verified: bool) -> None:
    """Asking often in a short time proves nothing."""
    pages = [page(*HOLE, NOW + minute * MINUTE_US) for minute in minutes]
    assert (nonexistent(pages, Gaps()) == [HOLE]) is verified


def test_only_the_part_seen_missing_twice_is_verified() -> None:
    """A candle that appeared in between takes its minute out."""
    middle = (HOLE[0] + MINUTE_US, HOLE[0] + 2 * MINUTE_US)
    pages = [page(*HOLE, NOW), page(*HOLE, NOW + HOUR_US, [middle])]
    assert nonexistent(pages, Gaps()) == [(HOLE[0], middle[0]), (middle[1], HOLE[1])]


def test_what_was_seen_a_moment_ago_is_not_worth_asking() -> None:
    """After half an hour it is again."""
    pages = [page(*HOLE, NOW)]
    assert seen_recently(pages, Gaps(), NOW + 29 * MINUTE_US) == [HOLE]
    assert seen_recently(pages, Gaps(), NOW + 30 * MINUTE_US) == []


def test_a_minute_after_the_answers_own_time_is_not_seen_missing() -> None:
    """An answer says nothing of the future."""
    assert nonexistent([page(NOW - MINUTE_US, NOW + HOUR_US, NOW), page(NOW - MINUTE_US, NOW + HOUR_US, NOW + HOUR_US)], Gaps()) == [
        (NOW - MINUTE_US, NOW)
    ]


def test_a_filled_hole_stays_in_the_ledger_with_what_filled_it() -> None:
    """Each range once, with the cause it had first."""
    known = [(Cause.ARCHIVE_OMISSION, HOLE), (Cause.OURS, (HOLE[0], HOLE[1] + MINUTE_US))]
    gaps = filled(known, {"rest": [(DAY, DAY + DAY_US)]}, evidence())
    assert [(gap.start_us, gap.end_us, gap.cause, gap.filled_by) for gap in gaps] == [
        (*HOLE, Cause.ARCHIVE_OMISSION, "rest"),
        (HOLE[1], HOLE[1] + MINUTE_US, Cause.OURS, "rest"),
    ]


def test_the_shipped_calendar_lists_the_known_outages_of_spot() -> None:
    """Twenty of them; futures have none listed."""
    calendar = load_calendar()
    assert len(calendar) == 20
    assert all(outage.holds_for(Market.SPOT, "BTCUSDT") and not outage.holds_for(Market.UM, "BTCUSDT") for outage in calendar)
    assert parse_time("2021-04-25T08:44") in range(calendar[16].start_us, calendar[16].end_us)
