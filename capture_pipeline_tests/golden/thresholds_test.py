"""Tests of the checks at each of their thresholds, and one step beyond."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from capture_pipeline.binance.streams.names import StreamKind
from capture_pipeline.checks.model import CheckResult, Verdict
from capture_pipeline.checks.recordings import DEFAULTS, RateRange
from capture_pipeline.golden.quality_score import Diagnosis
from capture_pipeline.golden.scan.scanner import Scan
from capture_pipeline.golden.scan.streams import Break, StreamScan
from capture_pipeline.golden.validation.book import check_books
from capture_pipeline.golden.validation.book_replay import RecordingReplay, SymbolReplay
from capture_pipeline.golden.validation.ids import check_ids
from capture_pipeline.golden.validation.session import _describe_silence
from capture_pipeline.golden.validation.size import check_size
from capture_pipeline.orderbook.audit import Audit, AuditOutcome, SideAudit
from capture_pipeline.sessions.continuity import Track

SECOND_NS = 1_000_000_000
TRADES, DEPTH = "btcusdt@trade", "btcusdt@depth@100ms"


def scan_of(lines: int, duration_ns: int, *streams: StreamScan) -> Scan:
    found = Scan(Path("x.jsonl.gz"), lines=lines, first_ns=0, last_ns=duration_ns)
    found.streams.update({stream.name: stream for stream in streams})
    return found


def passes(checks: list[CheckResult], name: str) -> bool:
    (check,) = [check for check in checks if check.spec.name == name]
    return check.verdict is Verdict.PASS


@pytest.mark.parametrize(("lines", "passed"), [(1_000_000, True), (999_999, False)])
def test_count_of_messages_at_its_threshold(lines: int, passed: bool) -> None:
    """The number of messages may be equal to the minimum."""
    assert passes(check_size(scan_of(lines, SECOND_NS), DEFAULTS), "messages") is passed


@pytest.mark.parametrize(
    ("duration_ns", "passed"), [(86_340 * SECOND_NS, True), (86_340 * SECOND_NS - 1, False)]
)
def test_duration_at_its_threshold(duration_ns: int, passed: bool) -> None:
    """The tolerance is part of the limit."""
    assert passes(check_size(scan_of(1, duration_ns), DEFAULTS), "duration") is passed


@pytest.mark.parametrize(("gap_ns", "passed"), [(249_999_999, True), (250_000_000, False)])
def test_uptime_at_its_threshold(gap_ns: int, passed: bool) -> None:
    """A value equal to the limit fails, because the uptime has to be above it."""
    stream = StreamScan(TRADES, StreamKind.TRADE, Track(gaps=1), breaks=[Break(TRADES, 1, 3, 0, gap_ns)])
    assert (
        passes(check_size(scan_of(1, SECOND_NS, stream), replace(DEFAULTS, min_uptime=0.75)), "uptime")
        is passed
    )


@pytest.mark.parametrize(("messages", "passed"), [(99, False), (100, True), (1000, True), (1001, False)])
def test_rate_at_its_thresholds(messages: int, passed: bool) -> None:
    """Both limits belong to the expected range."""
    streams = (
        StreamScan(TRADES, StreamKind.TRADE, Track(messages=messages)),
        StreamScan(DEPTH, StreamKind.DEPTH, Track(messages=messages)),
    )
    checks = check_size(
        scan_of(1, 10 * SECOND_NS, *streams),
        replace(DEFAULTS, trades_per_s=RateRange(10, 100), depth_per_s=RateRange(10, 100)),
    )
    assert passes(checks, "trade_rate") is passes(checks, "depth_rate") is passed


@pytest.mark.parametrize(("limit", "passed"), [(0.25, False), (0.2500001, True)])
def test_gap_ratios_at_their_threshold(limit: float, passed: bool) -> None:
    """A value equal to the limit fails, because each ratio has to be below it."""
    ids = Track(first=1, last=4, messages=3, gaps=1, lost=1)
    places = Track(first=1, last=5, messages=4, gaps=1, lost=1)
    for name, track in (
        ("gap_ratio_ids", ids),
        ("gap_ratio_events", ids),
        ("gap_ratio_discontinuities", places),
    ):
        checks = check_ids(
            scan_of(1, SECOND_NS, StreamScan(TRADES, StreamKind.TRADE, track)),
            replace(DEFAULTS, max_gap_ratio=limit),
            listed=True,
        )
        assert passes(checks, name) is passed, name


@pytest.mark.parametrize(
    ("first_s", "last_s", "silent"), [(600, 3000, False), (600.001, 3000, True), (600, 2999.999, True)]
)
def test_silence_of_a_stream_at_its_threshold(first_s: float, last_s: float, silent: bool) -> None:
    """The silence at the start or the end of a planned stream may be equal to the limit."""
    stream = StreamScan(
        TRADES, StreamKind.TRADE, first_ns=round(first_s * SECOND_NS), last_ns=round(last_s * SECOND_NS)
    )
    assert bool(_describe_silence(scan_of(1, 3600 * SECOND_NS, stream), TRADES, 600.0)) is silent


@pytest.mark.parametrize(
    ("valid", "crossed", "ratio", "failed"),
    [
        (999, 0, 0.99, set()),
        (998, 0, 0.99, {"book_valid"}),
        (999, 1, 0.99, {"book_crossed"}),
        (999, 0, 0.9899, {"book_audits"}),
    ],
)
def test_book_at_its_thresholds(valid: int, crossed: int, ratio: float, failed: set[str]) -> None:
    """The share of valid diffs and the match ratio may be equal to their limits.

    No diff may cross the book.
    """
    side = SideAudit(
        matched=99, differing=0, missing=1, ghosts=0, unknown=0, straddled=0, ratios={1000: ratio}
    )
    audits = [Audit(AuditOutcome.COMPARED, 7, side, side)]
    book = SymbolReplay("BTCUSDT", diffs=1000, valid=valid, crossed=crossed, audits=audits)
    checks = check_books(RecordingReplay({"BTCUSDT": book}), replace(DEFAULTS, min_book_valid=0.999))
    assert {check.spec.name for check in checks if check.verdict is Verdict.FAIL} == failed


@pytest.mark.parametrize(("share", "passed"), [(1.0, False), (1.01, True)])
def test_score_of_a_diagnosis_at_its_gate(share: float, passed: bool) -> None:
    """The score has to be above the gate."""
    parts = {"coverage": share, "continuity": 0.5, "wholeness": 1.0, "completeness": 0.0}
    found = Diagnosis(Path(), [], [], parts, gate=70.0)
    assert found.passed is passed
