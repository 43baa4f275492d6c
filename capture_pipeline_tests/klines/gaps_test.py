"""Causes of gaps: each missing range gets one cause, and absence needs answers far enough apart."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.binance.archive.protocol import Trust
from capture_pipeline.binance.periods import DAY_US, HOUR_US, MINUTE_US, TimeRange, iso, parse_time
from capture_pipeline.binance.urls import Granularity, Market
from capture_pipeline.calendars.outages import Edges, Kind, Outage, load_calendar
from capture_pipeline.klines.quality.absence import find_nonexistent, find_recently_absent
from capture_pipeline.klines.quality.gaps import Evidence, KnownGap, explain_gaps, find_filled_gaps
from capture_pipeline.klines.quality.ranges import Ranges, subtract, sum_lengths, union
from capture_pipeline.lake.manifests import ArchiveRecord, RestPage
from capture_pipeline.settings.models import Gaps
from capture_pipeline.tables.klines.gaps import Cause

DAY = parse_time("2024-03-01")
NOW = DAY + 20 * DAY_US
# fmt: off
KNOWN_DAYS = [
    "2017-09-06", "2017-12-04", "2017-12-18", "2017-12-18", "2018-01-04", "2018-02-08", "2018-02-10",
    "2018-02-11", "2018-06-26", "2018-06-27", "2018-07-04", "2018-10-19", "2018-11-14", "2019-03-12",
    "2019-05-15", "2019-06-07", "2019-08-15", "2019-11-13", "2019-11-13", "2019-11-25", "2020-02-09",
    "2020-02-19", "2020-03-04", "2020-04-25", "2020-06-28", "2020-11-30", "2020-12-21", "2020-12-25",
    "2021-02-11", "2021-03-06", "2021-04-20", "2021-04-25", "2021-08-13", "2021-09-29", "2021-12-24",
    "2023-03-24",
]
# fmt: on


def page(
    start: int, end: int, at: int, present: Ranges | None = None, *, run_at: int | None = None
) -> RestPage:
    return RestPage(
        asked_start_us=start,
        asked_end_us=end,
        server_time_us=at if run_at is None else run_at,
        asked_at_us=at,
        answered_end_us=end,
        url="",
        path="",
        sha256="",
        rows=0,
        present=present or [],
    )


def archive_of(start: int, trust: Trust, *, usable: bool = False) -> ArchiveRecord:
    """Return the record of the daily file of one day."""
    return ArchiveRecord(
        name="x",
        granularity=Granularity.DAILY,
        start_us=start,
        end_us=start + DAY_US,
        trust=trust,
        usable=usable,
        url="",
        fetched_at_us=0,
        checked_at_us=0,
    )


def evidence(**known: object) -> Evidence:
    given_known: dict[str, object] = {
        "step_us": MINUTE_US,
        "trading": TimeRange(DAY, DAY + 31 * DAY_US),
        "now_us": NOW,
        "outages": [],
        "pages": [],
        "archives": [],
        "settings": Gaps(),
        **known,
    }
    return Evidence(**given_known)  # type: ignore[arg-type]


HOLE = TimeRange(DAY + HOUR_US, DAY + HOUR_US + 5 * MINUTE_US)
TWICE = [page(*HOLE, NOW - 2 * HOUR_US), page(*HOLE, NOW - HOUR_US)]


@pytest.mark.parametrize(
    ("cause", "verified", "known"),
    [
        (Cause.BEFORE_LISTING, False, {"trading": TimeRange(DAY + DAY_US, DAY + 31 * DAY_US)}),
        (Cause.AFTER_DELISTING, False, {"trading": TimeRange(DAY, DAY + MINUTE_US)}),
        (Cause.EXCHANGE_OUTAGE, False, {"outages": [Outage(*HOLE, "outage")]}),
        (
            Cause.EXCHANGE_OUTAGE,
            False,
            {"outages": [Outage(HOLE[0] - 30_000_000, HOLE[1] + 30_000_000, "more than whole minutes")]},
        ),
        (
            Cause.EXCHANGE_OUTAGE,
            True,
            {"outages": [Outage(HOLE[1], HOLE[1] + HOUR_US, "its edge")], "pages": TWICE},
        ),
        (Cause.OURS, False, {"outages": [Outage(HOLE[1], HOLE[1] + HOUR_US, "an edge needs proof")]}),
        (Cause.SUSPENDED, False, {"outages": [Outage(*HOLE, "removed for a while", kind=Kind.SUSPENSION)]}),
        (
            Cause.SUSPENDED,
            False,
            {"outages": [Outage(*HOLE, "both"), Outage(*HOLE, "both", kind=Kind.SUSPENSION)]},
        ),
        (
            Cause.SUSPENDED,
            True,
            {
                "outages": [Outage(HOLE[1], HOLE[1] + HOUR_US, "its edge", kind=Kind.SUSPENSION)],
                "pages": TWICE,
            },
        ),
        (
            Cause.BEFORE_LISTING,
            False,
            {"trading": TimeRange(HOLE[1], NOW), "outages": [Outage(*HOLE, "earlier", kind=Kind.SUSPENSION)]},
        ),
        (Cause.UNKNOWN, False, {"pages": TWICE[:1]}),
        (Cause.UNKNOWN, False, {"pages": TWICE[:1], "requested_later": []}),
        (Cause.UNKNOWN, True, {"pages": TWICE}),
        (Cause.OURS, False, {}),
        (Cause.NOT_YET_PUBLISHED, False, {"now_us": HOLE[1] + HOUR_US}),
    ],
)
def test_a_hole_gets_the_cause_that_the_evidence_shows(
    cause: Cause, verified: bool, known: dict[str, object]
) -> None:
    """Causes are tried in a fixed order."""
    gaps = explain_gaps([HOLE], evidence(**known))
    assert [(gap.start_us, gap.end_us, gap.cause, gap.verified_nonexistent) for gap in gaps] == [
        (*HOLE, cause, verified)
    ]


@pytest.mark.parametrize(
    ("known", "explained"),
    [
        ({"pages": TWICE[:1]}, True),
        ({"off_grid_listed": [(DAY, DAY + DAY_US)]}, True),
        ({"off_grid_listed": [(DAY + DAY_US, DAY + 2 * DAY_US)]}, False),
        ({}, False),
        ({"requested_now": []}, False),
    ],
)
def test_rows_off_the_grid_explain_a_hole_once_rest_was_asked_or_they_are_listed(
    known: dict[str, object], explained: bool
) -> None:
    """A shifted file alone proves nothing: REST or a daily file may have the klines of the grid."""
    archives = [archive_of(DAY, Trust.OK, usable=True)]
    (gap,) = explain_gaps([HOLE], evidence(archives=archives, off_grid=[HOLE], shift="1 s", **known))
    assert (gap.cause, gap.row(MINUTE_US)["explained"]) == (
        Cause.OFF_GRID if explained else Cause.OURS,
        explained,
    )
    assert "bar_exclusions" in gap.detail
    assert ("run a top-up" in gap.detail) is (not explained and known.get("requested_now") != [])


@pytest.mark.parametrize(
    ("trust", "said"), [(Trust.MISMATCH, "quarantined"), (Trust.CHECKSUM_MISSING, "unverified")]
)
def test_a_file_that_is_not_used_makes_its_hole_ours(trust: Trust, said: str) -> None:
    """The same holds for a recent hole."""
    (gap,) = explain_gaps([HOLE], evidence(archives=[archive_of(DAY, trust)], now_us=HOLE[1] + HOUR_US))
    assert gap.cause is Cause.OURS
    assert said in gap.detail


@pytest.mark.parametrize(("hours", "suspected"), [(23, False), (24, True)])
def test_a_verified_hole_of_a_day_may_be_a_suspension(hours: int, suspected: bool) -> None:
    """The cause is unknown until the calendar lists it, and the detail says so."""
    hole = TimeRange(DAY + HOUR_US, DAY + (1 + hours) * HOUR_US)
    (gap,) = explain_gaps(
        [hole], evidence(pages=[page(*hole, NOW - 2 * HOUR_US), page(*hole, NOW - HOUR_US)])
    )
    assert (gap.cause, "suspended" in gap.detail) == (Cause.UNKNOWN, suspected)


def test_a_recent_hole_inside_an_ingested_file_does_not_wait_for_publication() -> None:
    """The hole is expected and unexplained. The following day is not published yet."""
    known = evidence(archives=[archive_of(DAY, Trust.OK, usable=True)], now_us=DAY + DAY_US + 2 * HOUR_US)
    inside, after = explain_gaps([TimeRange(DAY + DAY_US - HOUR_US, DAY + DAY_US + HOUR_US)], known)
    assert (inside.cause, inside.end_us, inside.row(MINUTE_US)["explained"]) == (
        Cause.OURS,
        DAY + DAY_US,
        False,
    )
    assert "does not contain it" in inside.detail
    assert after.cause is Cause.NOT_YET_PUBLISHED


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (59, 61), (1, 59)])
def test_an_outage_that_touches_a_candle_does_not_explain_it(start: int, end: int) -> None:
    """An outage of some minutes does not explain a missing hour, unless its absence is proven."""
    hour = TimeRange(DAY + HOUR_US, DAY + 2 * HOUR_US)
    outage = Outage(hour[0] + start * MINUTE_US, hour[0] + end * MINUTE_US, "minutes")
    (gap,) = explain_gaps([hour], evidence(step_us=HOUR_US, outages=[outage]))
    assert (gap.cause, gap.start_us, gap.end_us) == (Cause.OURS, *hour)
    (gap,) = explain_gaps(
        [hour],
        evidence(step_us=HOUR_US, outages=[outage], pages=[page(*hour, NOW - HOUR_US), page(*hour, NOW)]),
    )
    assert (gap.cause, gap.verified_nonexistent) == (Cause.EXCHANGE_OUTAGE, True)
    assert "edge" in gap.detail


def test_outages_that_follow_each_other_explain_the_candle_between_them() -> None:
    """Two outages cover the kline together; it gets one row with one reason."""
    half = DAY + HOUR_US + 30 * MINUTE_US
    listed = [Outage(DAY + HOUR_US, half, "first"), Outage(half, DAY + 2 * HOUR_US, "second")]
    (gap,) = explain_gaps(
        [TimeRange(DAY + HOUR_US, DAY + 2 * HOUR_US)], evidence(step_us=HOUR_US, outages=listed)
    )
    assert (gap.cause, gap.detail) == (Cause.EXCHANGE_OUTAGE, "first")


def test_the_edge_of_an_outage_is_made_of_whole_candles() -> None:
    """Half an hour before an outage is part of the kline of the hour before it."""
    hole = TimeRange(DAY + 9 * HOUR_US, DAY + 12 * HOUR_US)
    outage = Outage(DAY + 10 * HOUR_US, DAY + 12 * HOUR_US, "outage")
    pages = [page(*hole, NOW - HOUR_US), page(*hole, NOW)]
    gaps = explain_gaps([hole], evidence(step_us=HOUR_US, outages=[outage], pages=pages))
    assert [(gap.row(HOUR_US)["bars"], gap.cause) for gap in gaps] == [
        (1, Cause.EXCHANGE_OUTAGE),
        (2, Cause.EXCHANGE_OUTAGE),
    ]


_SECONDS = st.integers(0, 4 * 86_400)
_SPANS = st.lists(st.tuples(_SECONDS, st.integers(1, 86_400)), max_size=3)


def _spans_us(spans: list[tuple[int, int]], unit_us: int = 1_000_000) -> Ranges:
    return [TimeRange(DAY + start * unit_us, DAY + (start + length_) * unit_us) for start, length_ in spans]


@given(
    step=st.sampled_from([MINUTE_US, 5 * MINUTE_US, HOUR_US, 4 * HOUR_US, DAY_US]),
    holes=st.lists(st.tuples(st.integers(0, 400), st.integers(1, 30)), max_size=5),
    outages=_SPANS,
    pages=st.lists(st.tuples(_SECONDS, st.integers(1, 86_400), _SECONDS), max_size=4),
    trading=st.tuples(_SECONDS, _SECONDS),
    now=_SECONDS,
    known=_SPANS,
)
def test_every_row_is_of_whole_candles_and_none_vanishes(
    *,
    step: int,
    holes: list[tuple[int, int]],
    outages: list[tuple[int, int]],
    pages: list[tuple[int, int, int]],
    trading: tuple[int, int],
    now: int,
    known: list[tuple[int, int]],
) -> None:
    """The times of outages, answers, listing, present and earlier ledger are random."""
    missing = union(_spans_us(holes, step))
    asked = [
        (*span, DAY + at * 1_000_000)
        for span, (_, _, at) in zip(_spans_us([each[:2] for each in pages]), pages, strict=True)
    ]
    seen = evidence(
        step_us=step,
        trading=TimeRange(DAY + min(trading) * 1_000_000, DAY + max(trading) * 1_000_000),
        now_us=DAY + now * 1_000_000,
        outages=[Outage(*span, "made") for span in _spans_us(outages)],
        pages=[page(start, end, at, run_at=NOW) for start, end, at in asked],
        archives=[archive_of(DAY, Trust.OK, usable=True), archive_of(DAY + DAY_US, Trust.MISMATCH)],
    )
    gaps = explain_gaps(missing, seen)
    assert all((gap.start_us - DAY) % step == 0 and (gap.end_us - gap.start_us) % step == 0 for gap in gaps)
    assert sum(int(str(gap.row(step)["bars"])) for gap in gaps) == sum_lengths(missing) // step
    rows = find_filled_gaps(
        [KnownGap(Cause.OURS, span) for span in _spans_us(known)], {"rest": missing}, seen
    )
    assert all((gap.start_us - DAY) % step == 0 and (gap.end_us - gap.start_us) % step == 0 for gap in rows)
    assert sum_lengths((gap.start_us, gap.end_us) for gap in rows) == sum(
        gap.end_us - gap.start_us for gap in rows
    )


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 9)), max_size=6),
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 30)), max_size=4),
)
def test_rows_make_up_exactly_what_is_missing(
    holes: list[tuple[int, int]], outages: list[tuple[int, int]]
) -> None:
    """Ranges are split at changes of the cause, without losses or repetitions."""
    missing = union([(DAY + start * MINUTE_US, DAY + (start + count) * MINUTE_US) for start, count in holes])
    listed = [
        Outage(DAY + start * MINUTE_US, DAY + (start + count) * MINUTE_US, "made") for start, count in outages
    ]
    gaps = explain_gaps(missing, evidence(outages=listed))
    assert union([(gap.start_us, gap.end_us) for gap in gaps]) == missing
    assert sum(gap.end_us - gap.start_us for gap in gaps) == sum(end - start for start, end in missing)


@pytest.mark.parametrize(
    ("minutes", "verified"),
    [
        ([0], False),
        ([0, 29], False),
        ([0, 30], True),
        ([0, 10, 20, 29], False),
        ([0, 10, 20, 30], True),
        ([0, 20, 40], True),
    ],
)
def test_absence_is_verified_by_two_sightings_thirty_minutes_apart(
    minutes: list[int], verified: bool
) -> None:
    """Many requests in a short time prove nothing."""
    pages = [page(*HOLE, NOW + minute * MINUTE_US) for minute in minutes]
    assert (find_nonexistent(pages, Gaps()) == [HOLE]) is verified


def test_only_the_part_seen_missing_twice_is_verified() -> None:
    """A minute whose kline appeared in between is not proven absent."""
    middle = TimeRange(HOLE[0] + MINUTE_US, HOLE[0] + 2 * MINUTE_US)
    pages = [page(*HOLE, NOW), page(*HOLE, NOW + HOUR_US, [middle])]
    assert find_nonexistent(pages, Gaps()) == [(HOLE[0], middle[0]), (middle[1], HOLE[1])]


def test_what_was_seen_a_moment_ago_is_not_worth_asking() -> None:
    """After half an hour the range is requested again."""
    pages = [page(*HOLE, NOW)]
    assert find_recently_absent(pages, Gaps(), NOW + 29 * MINUTE_US) == [HOLE]
    assert find_recently_absent(pages, Gaps(), NOW + 30 * MINUTE_US) == []


def test_two_requests_seconds_apart_are_one_sighting_however_long_ago_the_run_began() -> None:
    """The time of the request counts.

    The first one was sent forty minutes after the start of its run, the second one directly after it.
    """
    late = [
        page(*HOLE, NOW, run_at=NOW - 40 * MINUTE_US),
        page(*HOLE, NOW + 1_000_000, run_at=NOW + 1_000_000),
    ]
    assert find_nonexistent(late, Gaps()) == []
    assert find_nonexistent([*late, page(*HOLE, NOW + 30 * MINUTE_US, run_at=NOW)], Gaps()) == [HOLE]


@pytest.mark.parametrize(
    ("minutes", "recent"), [(-71, False), (-40, True), (0, True), (29, True), (30, False)]
)
def test_an_answer_is_recent_from_its_run_until_half_an_hour_after_it(minutes: int, recent: bool) -> None:
    """A late answer of the same run is recent; a clock that was once far ahead blocks nothing."""
    late = page(*HOLE, NOW, run_at=NOW - 40 * MINUTE_US)
    assert (find_recently_absent([late], Gaps(), NOW + minutes * MINUTE_US) == [HOLE]) is recent


def test_an_answer_recorded_without_its_own_time_was_asked_when_its_run_began() -> None:
    """Manifests of earlier versions can be read."""
    document = page(*HOLE, NOW, run_at=NOW - HOUR_US).model_dump()
    del document["asked_at_us"]
    assert RestPage.model_validate(document).asked_at_us == NOW - HOUR_US


def test_a_minute_after_the_answers_own_time_is_not_seen_missing() -> None:
    """An answer proves nothing about later times."""
    assert find_nonexistent(
        [page(NOW - MINUTE_US, NOW + HOUR_US, NOW), page(NOW - MINUTE_US, NOW + HOUR_US, NOW + HOUR_US)],
        Gaps(),
    ) == [(NOW - MINUTE_US, NOW)]


def test_a_filled_hole_stays_in_the_ledger_with_what_filled_it() -> None:
    """Each range occurs once, with its first cause."""
    longer = TimeRange(HOLE.start_us, HOLE.end_us + MINUTE_US)
    known = [KnownGap(Cause.ARCHIVE_OMISSION, HOLE), KnownGap(Cause.OURS, longer)]
    gaps = find_filled_gaps(known, {"rest": [TimeRange(DAY, DAY + DAY_US)]}, evidence())
    assert [(gap.start_us, gap.end_us, gap.cause, gap.filled_by) for gap in gaps] == [
        (*HOLE, Cause.ARCHIVE_OMISSION, "rest"),
        (HOLE[1], HOLE[1] + MINUTE_US, Cause.OURS, "rest"),
    ]


def test_the_shipped_calendar_lists_the_known_outages_of_spot() -> None:
    """Each entry has a source, and no entry is inside another one. Futures have no entries."""
    outages = [entry for entry in load_calendar() if entry.kind is Kind.OUTAGE]
    assert [iso(entry.start_us)[:10] for entry in outages] == KNOWN_DAYS
    assert all(
        entry.applies_to(Market.SPOT, "BTCUSDT") and not entry.applies_to(Market.UM, "BTCUSDT")
        for entry in outages
    )
    assert all(entry.source for entry in load_calendar())
    assert all(before.end_us < after.start_us for before, after in pairwise(outages))
    assert not any(
        entry.edges is Edges.APPROXIMATE for entry in outages if entry.start_us > parse_time("2018-03-01")
    )


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2017-12-04T06:01", "2017-12-04T06:49"),
        ("2017-12-18T10:01", "2017-12-18T10:14"),
        ("2017-12-18T12:30", "2017-12-18T13:34"),
        ("2018-02-08T00:29", "2018-02-09T09:59"),
        ("2018-06-26T02:00", "2018-06-26T12:00"),
        ("2018-06-27T13:00", "2018-06-27T14:45"),
        ("2018-07-04T00:23", "2018-07-04T08:00"),
        ("2018-10-19T06:00", "2018-10-19T09:30"),
        ("2018-11-14T02:00", "2018-11-14T09:00"),
        ("2019-05-15T03:00", "2019-05-15T13:00"),
        ("2019-06-07T21:14", "2019-06-07T22:15"),
        ("2019-11-13T02:00", "2019-11-13T04:20"),
        ("2019-11-13T05:30", "2019-11-13T05:33"),
        ("2019-11-25T02:00", "2019-11-25T04:00"),
        ("2021-04-25T04:01", "2021-04-25T08:45"),
        ("2021-08-13T02:00", "2021-08-13T06:30"),
    ],
)
def test_minutes_missing_at_the_exchange_are_explained_without_asking(start: str, end: str) -> None:
    """The minutes of public lists of missing klines are explained, and the minutes around them are not."""
    hole = TimeRange(parse_time(start), parse_time(end))
    outages = [entry for entry in load_calendar() if entry.applies_to(Market.SPOT, "BTCUSDT")]
    around = TimeRange(hole[0] - HOUR_US, hole[1] + HOUR_US)
    gaps = explain_gaps([around], evidence(trading=TimeRange(0, NOW), outages=outages))
    explained = union([(gap.start_us, gap.end_us) for gap in gaps if gap.cause is Cause.EXCHANGE_OUTAGE])
    assert subtract([hole], explained) == []
    assert sum_lengths(subtract(explained, [hole])) <= 15 * MINUTE_US


def test_pairs_that_were_removed_and_listed_again_are_suspended() -> None:
    """The suspension applies only to these symbols, and only to spot."""
    month = TimeRange(parse_time("2022-12-01"), parse_time("2023-01-01"))
    for market, symbol, cause in (
        (Market.SPOT, "BTCUSDC", Cause.SUSPENDED),
        (Market.SPOT, "BTCUSDT", Cause.OURS),
        (Market.UM, "BTCUSDC", Cause.OURS),
    ):
        outages = [entry for entry in load_calendar() if entry.applies_to(market, symbol)]
        (gap,) = explain_gaps([month], evidence(trading=TimeRange(0, NOW), outages=outages))
        assert gap.cause is cause
