"""Tests of the comparison of sessions: figures computed by hand, and a self-contained page."""

from __future__ import annotations

import gzip
import math
import re
from pathlib import Path

import polars as pl
import pytest

from capture_pipeline.golden.comparison.figures import ComparedSession, classify_latency, compare_sessions
from capture_pipeline.golden.comparison.report import markdown, page
from capture_pipeline.golden.conversion.converter import convert
from capture_pipeline.golden.tables import GoldenTables
from capture_pipeline.sessions.line_format import format_line
from capture_pipeline.sessions.models import SessionMetadata, SessionPlan
from capture_pipeline_tests.support.sessions.eth import SESSION, import_eth

START_NS = 1_785_760_200_000_000_000
MADE = "20260803T123000Z_ethusdt"


def made_session(folder: Path) -> GoldenTables:
    """Convert five minutes: a snapshot, a diff per second that moves the ask, and a trade per minute."""
    lines = [
        format_line(
            START_NS,
            "ethusdt@depthSnapshot",
            b'{"lastUpdateId":100,"bids":[["100.0","2.0"]],"asks":[["101.0","3.0"]]}',
        )
    ]
    for second in range(1, 301):
        stamp = START_NS + second * 10**9
        event = stamp // 10**6 - 5
        ask = 101 + second % 2
        changes = f'["{203 - ask}.0","0"],["{ask}.0","1.5"]'
        diff = (
            f'{{"e":"depthUpdate","E":{event},"s":"ETHUSDT","U":{100 + second},"u":{100 + second},'
            f'"b":[],"a":[{changes}]}}'
        )
        lines.append(format_line(stamp, "ethusdt@depth@100ms", diff.encode()))
        if second % 60 == 0:
            price = 100 + second // 60
            trade = (
                f'{{"e":"trade","E":{event},"s":"ETHUSDT","t":{second},"p":"{price}.0","q":"1.0",'
                f'"T":{event - 1000},"m":true,"M":true}}'
            )
            lines.append(format_line(stamp, "ethusdt@trade", trade.encode()))
    path = folder / "made.jsonl.gz"
    path.write_bytes(gzip.compress(b"".join(lines)))
    convert(path, MADE, folder / "lake", block_bytes=1 << 16)
    return GoldenTables(folder / "lake", MADE)


def metadata() -> SessionMetadata:
    plan = SessionPlan(
        session=MADE, venue="sandbox", market="spot", symbols=["ETHUSDT"], streams=[], regime="low_volume",
        start_us=START_NS // 1000, duration_s=300, connections=2,
    )  # fmt: skip
    return SessionMetadata(
        plan=plan, state="complete", started_ns=None, ended_ns=None, files=[],
        statistics={"gaps": 3, "reconnects": 2}, audits=[], clock={}, host={}, versions={}, configuration={},
    )  # fmt: skip


def test_figures_by_hand(tmp_path: Path) -> None:
    """Spread, depth, latency, rates and volatility equal figures computed by hand."""
    found = compare_sessions([ComparedSession(made_session(tmp_path), "ETHUSDT", metadata())]).sessions[0]
    assert (found.regime, found.gaps, found.reconnects, found.trades, found.diffs) == (
        "low_volume",
        3,
        2,
        5,
        300,
    )
    assert found.duration_s == 299
    assert found.book_valid_s == 299
    assert {round(value, 4) for value in found.series[2].values} == {
        round(1e4 / 100.5, 4),
        round(2e4 / 101, 4),
    }
    assert (found.bid_depth, found.ask_depth) == (2.0, 1.5)
    assert (found.depth_latency.native, found.depth_latency.p50, found.depth_latency.most) == (300, 5.0, 5.0)
    assert sum(found.series[1].values) == 300
    returns = [math.log((101 + n) / (100 + n)) for n in range(1, 5)]
    mean = sum(returns) / 4
    assert found.volatility_bp == pytest.approx(
        1e4 * math.sqrt(sum((value - mean) ** 2 for value in returns) / 3), abs=1e-3
    )


def test_latency_is_classed() -> None:
    """Of the four classes of latency, only two are measured."""
    frame = pl.DataFrame({"capture_ns": [1_000, 2_000, 5_000_000, 9_000_000], "event_us": [2, 2, 0, 1_000]})
    found = classify_latency(frame)
    assert (found.negative, found.receipt_filled, found.missing, found.native) == (1, 1, 1, 1)
    assert (found.least, found.most) == (-0.001, 8.0)
    assert classify_latency(frame[:0]).p50 is None


def test_the_page_stands_alone(tmp_path: Path) -> None:
    """The page has no script and no address, and escapes names. Each session is a column of the Markdown."""
    tables = made_session(tmp_path)
    comparison = compare_sessions(
        [ComparedSession(tables, "ETHUSDT", metadata()), ComparedSession(tables, "ETHUSDT")]
    )
    text = page(
        comparison.model_copy(
            update={"sessions": [s.model_copy(update={"regime": "<b>|x"}) for s in comparison.sessions]}
        )
    )
    assert "<script" not in text
    assert "<b>" not in text
    assert re.findall(r'(?:src|href)="', text) == []
    assert text.count("<polyline") == 6
    table = markdown(comparison).splitlines()
    assert {line.count("|") for line in table} == {4}
    assert any(line.startswith("| Gaps | 3 | – |") for line in table)


def test_the_recorded_session(recordings: Path, tmp_path: Path) -> None:
    """The clock of the ETH recorder was behind, so every latency is negative.

    The book is valid from the snapshot on.
    """
    convert(import_eth(recordings, tmp_path / "eth.jsonl.gz"), SESSION, tmp_path / "lake")
    found = compare_sessions([ComparedSession(GoldenTables(tmp_path / "lake", SESSION), "ETHUSDT")]).sessions[
        0
    ]
    assert found.trade_latency.native == found.depth_latency.native == 0
    assert found.depth_latency.negative == found.diffs
    assert found.book_valid_s > 600
    assert found.spread_bp is not None
    assert 0 < found.spread_bp < 0.1
    assert found.gaps is None
