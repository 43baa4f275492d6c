"""Origin times: classes of messages, figures, and the recommended clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from capture_pipeline.checks.feasibility import ORIGIN_TIME, SKEW
from capture_pipeline.checks.model import Verdict
from capture_pipeline.errors import LakeError, MalformedDataError
from capture_pipeline.feasibility.event_time.evidence import (
    OriginReport,
    build_evidence,
    build_readings,
    build_report,
)
from capture_pipeline.feasibility.event_time.measurement import StreamTimes, measure_stream
from capture_pipeline.feasibility.event_time.page import TITLE, build_sections
from capture_pipeline.feasibility.event_time.streams import TimedStream, crypto_lake_streams, golden_streams
from capture_pipeline.feasibility.event_time.weighted_quantiles import WeightedValues
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.reporting.charts import markdown, page
from capture_pipeline_tests.support.sessions.eth import SESSION, import_eth

START = 1_769_817_600_000_000_000
MS, DAY = 10**6, 86_400 * 10**9


def stream(
    origins: Sequence[int | None], receipts: Sequence[int], name: str = "trades", *, judged: bool = True
) -> TimedStream:
    frame = pl.LazyFrame(
        {"origin_ns": origins, "receipt_ns": receipts}, schema={"origin_ns": pl.Int64, "receipt_ns": pl.Int64}
    )
    return TimedStream(name, frame, judged)


def generate_times(late_us: Sequence[int], unit: int = 1000) -> tuple[list[int], list[int]]:
    """Generate a message each tenth of a second with given delays; origin times are cut to a unit."""
    stamps = [START + 123_456_000 + at * 100 * MS for at in range(len(late_us))]
    return [stamp // unit * unit for stamp in stamps], [
        stamp + late * 1000 + 7 for stamp, late in zip(stamps, late_us, strict=True)
    ]


def measure_times(origins: Sequence[int | None], receipts: Sequence[int]) -> StreamTimes:
    return measure_stream(stream(origins, receipts))


def report(origins: Sequence[int | None], receipts: Sequence[int]) -> OriginReport:
    return build_report("x BTCUSDT", [measure_times(origins, receipts)])


def verdicts(one: OriginReport) -> tuple[Verdict, Verdict]:
    missing, skew = build_readings([one])
    return ORIGIN_TIME.verdict(missing.measured), SKEW.verdict(skew.measured)


def test_each_message_is_in_one_class() -> None:
    """Null, zero, negative, before 2009, a day off, the receipt's own microsecond; all others are native."""
    receipts = [START + at * 100 * MS + 5_000_123 for at in range(10)]
    origins: list[int | None] = [
        None,
        0,
        -1,
        10**17,
        receipts[4] + DAY,
        receipts[5] - DAY,
        receipts[6] // 1000 * 1000,
    ]
    origins += [receipt - 5 * MS for receipt in receipts[7:]]
    found = measure_times(origins, receipts)
    assert (found.null, found.zero, found.invalid, found.receipt_filled, found.native, found.rounded) == (
        1,
        2,
        3,
        1,
        3,
        0,
    )
    assert found.messages == 10
    assert found.unusable_percent == 70
    assert found.skew_ms["min"] == found.skew_ms["max"] == 5


@pytest.mark.parametrize(
    ("unit", "resolution", "rounded", "clock"),
    [(1, "1 µs", 0, "origin time"), (MS, "1 ms", 50, "origin time"), (10**9, "1 s", 50, "receipt time")],
)
def test_rounding_is_told_by_the_unit_of_all(unit: int, resolution: str, rounded: int, clock: str) -> None:
    """Milliseconds can be a clock, and seconds cannot.

    One exact time shows that the others are not rounded.
    """
    found = report(*generate_times([20_000] * 50, unit))
    (times,) = found.streams
    assert (times.resolution, times.rounded, times.native) == (resolution, rounded, 50 - rounded)
    assert found.clock == clock
    origins, receipts = generate_times([20_000] * 50, unit)
    origins[25] += 1000
    assert measure_times(origins, receipts).rounded == 0


def test_seconds_are_no_clock_however_near_the_receipt() -> None:
    """Times in whole seconds cannot order events, even with receipts 20 ms later."""
    origins = [START + at * 10**9 for at in range(50)]
    found = report(origins, [origin + 20 * MS + 7000 for origin in origins])
    assert found.streams[0].p95_ms == 0
    assert found.clock == "receipt time"
    assert "rounded to 1 s" in found.reasons[0]


def test_percentiles_are_by_nearest_rank() -> None:
    """Of ten values, the 95th percentile is the tenth one and the median the fifth one."""
    ten = WeightedValues(np.arange(1, 11), np.ones(10, np.int64))
    assert [ten.at(share) for share in (0.0, 0.01, 0.5, 0.51, 0.95, 1.0)] == [1, 1, 5, 6, 10, 10]
    weighted = WeightedValues(np.array([1, 2, 3]), np.array([1, 8, 1]))
    assert [weighted.at(share) for share in (0.1, 0.11, 0.9, 0.91)] == [1, 2, 2, 3]


def test_the_offset_is_the_median_and_is_taken_out() -> None:
    """Percentiles with and without the offset; the criterion uses the absolute value of the rest."""
    late = [-1_270_000 + delta for delta in range(1000, 101_000, 1000)]
    found = measure_times(*generate_times(late))
    assert found.offset_ms == -1220
    assert found.skew_ms == {
        "min": -1269,
        "p1": -1269,
        "p5": -1265,
        "p50": -1220,
        "p95": -1175,
        "p99": -1171,
        "max": -1170,
    }
    assert found.corrected_ms == {"min": -49, "p1": -49, "p5": -45, "p50": 0, "p95": 45, "p99": 49, "max": 50}
    assert found.p95_ms == 47
    assert found.histogram is not None
    assert sum(found.histogram.counts) + found.histogram.below + found.histogram.above == 100
    (_, reading) = build_readings([build_report("x BTCUSDT", [found])])
    assert (reading.measured, reading.criterion) == (47, SKEW.name)


def test_a_clock_that_moves_is_told() -> None:
    """An offset that changes from 0 to 300 ms is not a constant offset."""
    found = report(*generate_times([at * 500 for at in range(600)]))
    assert found.streams[0].drift_ms == pytest.approx(295, abs=1)
    assert any("the offset changed by" in reason for reason in found.reasons)
    assert found.clock == "receipt time"


def test_order_and_steps() -> None:
    """A regression is counted with its length, also with a missing time in between."""
    origins, receipts = generate_times([1000] * 10)
    told: list[int | None] = list(origins)
    told[4], told[5] = None, origins[3] - 30 * MS
    found = measure_times(told, receipts)
    assert (found.regressions, found.largest_regression_ms, found.largest_step_ms) == (1, 30, 330)
    assert report(told[:4] + told[6:], receipts[:4] + receipts[6:]).streams[0].regressions == 0


def test_missing_times_fail_from_five_percent_on() -> None:
    """4 of 100 pass and 5 of 100 fail. The receipt is the recommended clock then."""
    for count, verdict, clock in ((4, Verdict.PASS, "origin time"), (5, Verdict.FAIL, "receipt time")):
        origins, receipts = generate_times([3000] * 100)
        for wrong in (None, 0, 10**17, "receipt"):
            told = [receipts[at] if wrong == "receipt" else wrong for at in range(count)]
            found = report([*told, *origins[count:]], receipts)  # type: ignore[list-item]
            assert verdicts(found)[0] is verdict
            assert found.clock == clock


def test_skew_fails_from_a_hundred_milliseconds_on() -> None:
    """A skew of 99.999 ms in a tenth of all messages passes, and 100 ms fails."""
    for late, verdict in ((99_999, Verdict.PASS), (100_000, Verdict.FAIL)):
        found = report(*generate_times(([5000] * 9 + [5000 + late]) * 20))
        assert verdicts(found) == (Verdict.PASS, verdict)
        assert found.clock == ("origin time" if verdict is Verdict.PASS else "receipt time")


def test_what_cannot_be_measured_is_unknown_never_passed() -> None:
    """There is no skew without messages or usable times. A stream without origin times does not count."""
    assert verdicts(report([], [])) == (Verdict.UNKNOWN, Verdict.UNKNOWN)
    filled = report([START] * 20, [START] * 20)
    assert verdicts(filled) == (Verdict.FAIL, Verdict.UNKNOWN)
    assert filled.clock == "receipt time"
    natural = build_report(
        "x BTCUSDT",
        [
            measure_times(*generate_times([1000] * 9)),
            measure_stream(stream([None] * 9, [START] * 9, judged=False)),
        ],
    )
    assert verdicts(natural) == (Verdict.PASS, Verdict.PASS)
    assert any("order them by their update id" in reason for reason in natural.reasons)
    worst = build_report(
        "x BTCUSDT",
        [measure_times(*generate_times([1000] * 9)), measure_stream(stream([None] * 9, [START] * 9))],
    )
    assert verdicts(worst) == (Verdict.FAIL, Verdict.UNKNOWN)


def test_crypto_lake_files(tmp_path: Path) -> None:
    """Published trades and diffs, and a book without origin times.

    A message with several levels counts once.
    """
    origins, receipts = generate_times([2000] * 30)
    trades = pa.table({"timestamp": origins, "receipt_timestamp": receipts, "id": list(range(30))})
    pq.write_table(trades, tmp_path / "trades.parquet")
    times = {"origin_time": origins, "received_time": receipts}
    levels = {
        name: pa.array([each for each in column for _ in range(5)]).cast(pa.timestamp("ns"))
        for name, column in times.items()
    }
    pq.write_table(
        pa.table({**levels, "sequence_number": [at // 5 for at in range(150)]}), tmp_path / "deltas.parquet"
    )
    pq.write_table(
        pa.table({"timestamp": [-1] * 30, "receipt_timestamp": receipts}), tmp_path / "books.parquet"
    )
    streams = [
        measure_stream(one)
        for one in crypto_lake_streams(
            *(tmp_path / f"{name}.parquet" for name in ("trades", "deltas", "books"))
        )
    ]
    assert [(one.name, one.messages, one.zero, one.native) for one in streams] == [
        ("trades", 30, 0, 30), ("deltas", 30, 0, 30), ("books", 30, 30, 0),
    ]  # fmt: skip
    assert [one.offset_ms for one in streams] == [2, 2, None]
    with pytest.raises(MalformedDataError, match="has no column sequence_number"):
        crypto_lake_streams(deltas=tmp_path / "trades.parquet")
    with pytest.raises(LakeError, match="does not exist"):
        crypto_lake_streams(trades=tmp_path / "none.parquet")


def test_the_page_needs_nothing_else_and_escapes() -> None:
    """One file without references contains a plot for each stream and a table of every figure."""
    found = build_report(
        "a <b> BTCUSDT",
        [measure_times(*generate_times([1000, 2000, 3000] * 30)), measure_times([None], [START])],
    )
    text = page(TITLE, build_sections([found]))
    assert "a &lt;b&gt; BTCUSDT" in text
    assert text.count("<svg") == 2
    assert not re.search(r'(src|href)="', text)
    shown = markdown(build_sections([found])[0])
    assert "| Offset of the clocks (median skew), ms | 2.000 | – |" in shown
    assert "order events by receipt time" in shown


def test_the_recorder_s_clock_of_a_real_recording(recordings: Path, tmp_path: Path) -> None:
    """The clock was 1.27 s behind. Trades and diffs show the same offset, and the rest is at most 30 ms."""
    convert(import_eth(recordings, tmp_path / "x.jsonl.gz"), SESSION, tmp_path)
    streams = [measure_stream(one) for one in golden_streams(GoldenTables(tmp_path, SESSION), "ETHUSDT")]
    assert {one.name: one.messages for one in streams} == {
        "trades": 14_515,
        "trades, trade time": 14_515,
        "deltas": 6_470,
        "snapshots": 1,
    }
    for one in streams[:3]:
        assert one.rounded == one.messages
        assert one.offset_ms == pytest.approx(-1272.5, abs=1.5)
        assert one.skew_ms["max"] < -1000
        assert one.p95_ms is not None
        assert one.p95_ms < 30
        assert one.regressions == 0
    found = build_report(f"{SESSION} ETHUSDT", streams)
    assert found.clock == "origin time"
    assert any("ms behind that of the exchange" in reason for reason in found.reasons)
    assert build_evidence([found], {"x.jsonl.gz": "0"}).failed == []
