"""The status of a recording: rate, errors, counts, and the state after the end of a recorder."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from capture_pipeline.binance.http.pauses import HostGroup
from capture_pipeline.binance.http.settings import RateLimits
from capture_pipeline.binance.periods import iso
from capture_pipeline.cli.session.view import overview, session_document
from capture_pipeline.deployment.address_limits import AddressLimits
from capture_pipeline.recorder.app import LEAD_S
from capture_pipeline.recorder.connections.health import ConnectionHealth, RestPauses
from capture_pipeline.recorder.events import ConnectionClosed, ConnectionRefused, EventBus, RestPaused
from capture_pipeline.recorder.process import follow
from capture_pipeline.recorder.state import OLD_S, session_state
from capture_pipeline.recorder.telemetry.rate import Rate
from capture_pipeline.sessions.models import Cause
from capture_pipeline.sessions.status import Status
from capture_pipeline_tests.support.sessions.desk import metrics_text
from capture_pipeline_tests.support.sessions.recorder import Live, live

CAPTURE = str(Path(sys.executable).with_name("capture"))


def test_a_rate_does_not_depend_on_when_messages_are_written() -> None:
    """The rate is twenty per second from the first call on, and after a time without samples."""
    rate = Rate()
    rate.add_sample(90.0, 0)
    assert rate.per_s(99.0, 0) == 0
    rate.begin(100.0, 0)
    rate.begin(100.4, 8)
    for tenth in range(1, 200):
        now_s, count = 100 + tenth / 10, 2 * tenth
        assert rate.per_s(now_s, count) == pytest.approx(20, rel=0.01 if tenth > 1 else 0.51), tenth
        if tenth % 10 == 0:
            rate.add_sample(now_s, count)


def test_a_rate_follows_what_comes_within_five_seconds_and_is_0_only_where_nothing_came() -> None:
    """The rate of a stream that stops falls to 0; one message in the window is a rate above 0."""
    rate = Rate()
    rate.begin(0.0, 0)
    found = []
    for second in range(1, 20):
        count = 20 * min(second, 8)
        found.append(rate.per_s(second, count))
        rate.add_sample(second, count)
    assert found[:8] == [20.0] * 8
    assert found[8:14] == [16.0, 12.0, 8.0, 4.0, 0.0, 0.0]
    assert rate.per_s(19.5, 161) > 0


class _Ended:
    """Connection health with a clock that the test sets, and its reported lines."""

    def __init__(self) -> None:
        self.now_s, self.reports = 0.0, list[str]()
        self.events = EventBus()
        self.troubles = ConnectionHealth("ws://host", self.events, self.reports.append, lambda: self.now_s)

    def end(self, cause: Cause, detail: str, *, opened: bool = False) -> None:
        """End a connection."""
        kind = ConnectionClosed if opened else ConnectionRefused
        self.events.publish(kind(1, cause, detail, messages=0))

    def look(self, seconds: float, *, is_whole: bool = False) -> None:
        """Advance the time with a call each second."""
        for _ in range(round(seconds)):
            self.now_s += 1
            self.troubles.report_changes(is_whole=is_whole)


def test_a_connection_error_is_told_once_and_again_when_it_changes() -> None:
    """Repeated attempts are not reported; the recovery is."""
    case = _Ended()
    for _ in range(5):
        case.end(Cause.CLOSED, "ConnectionRefusedError")
        case.look(3)
    case.end(Cause.CLOSED, "refused with HTTP 451")
    case.look(3)
    assert case.troubles.current == "cannot connect to ws://host: refused with HTTP 451"
    case.look(3, is_whole=True)
    refused = [
        "cannot connect to ws://host: ConnectionRefusedError",
        "cannot connect to ws://host: refused with HTTP 451",
    ]
    assert case.reports == [*refused, "every connection delivers again"]
    assert not case.troubles.current


def test_a_short_break_and_a_planned_end_are_told_to_nobody() -> None:
    """Both are only in the event log."""
    case = _Ended()
    case.end(Cause.CLOSED, "1006", opened=True)
    case.look(1, is_whole=True)
    case.end(Cause.LIFE, "after 23.5 h", opened=True)
    case.end(Cause.SHUTDOWN, "announced by the exchange", opened=True)
    case.look(5)
    assert case.reports == []
    case.end(Cause.SILENCE, "no data for 8 s", opened=True)
    case.look(2)
    assert case.reports == ["connection to ws://host lost: silence, no data for 8 s"]


def test_pause_of_rest_is_told_once_with_its_end(tmp_path: Path) -> None:
    """A changed end is reported again; the status shows the pause while it lasts."""
    now_s = [1_800_000_000.0]
    limits, reports, events = (
        AddressLimits(tmp_path / "limits.json", RateLimits(), now_s=lambda: now_s[0]),
        list[str](),
        EventBus(),
    )
    events.subscribe(RestPaused, lambda event: reports.append(event.what))
    pauses = RestPauses(limits, events)
    pauses.report_changes()
    assert (pauses.current, reports) == ("", [])
    limits.refuse(HostGroup.REST, 429, 60.0)
    for _ in range(3):
        pauses.report_changes()
    assert (
        reports
        == ["REST: the exchange requires this address to wait until 2027-01-15T08:01:00Z (429)"]
        == [pauses.current]
    )
    now_s[0] += 60
    pauses.report_changes()
    assert (pauses.current, len(reports)) == ("", 1)


def test_a_connection_error_is_a_metric_with_its_text() -> None:
    """Quotes in it are escaped; without an error the value is 0."""
    status = Status(
        session="s",
        state="connecting",
        pid=1,
        updated_ns=0,
        started_us=0,
        ends_us=1,
        last_error='said "no"\nand \\',
    )
    assert 'capture_connection_error{error="said \\"no\\"\\\\nand \\\\",session="s"} 1.0\n' in metrics_text(
        status
    )
    assert 'capture_connection_error{error="",session="s"} 0.0\n' in metrics_text(
        status.model_copy(update={"last_error": ""})
    )


def test_metrics_keep_their_names_types_and_labels() -> None:
    """Dashboards and alerts refer to them; a value that is not known is absent."""
    status = Status(
        session="s", state="recording", pid=1, updated_ns=0, started_us=0, ends_us=1, messages=7, lag_ms=2.5
    )
    families = {one.name: one for one in text_string_to_metric_families(metrics_text(status))}
    names = {"messages", "file_bytes", "dropped_messages", "gaps", "ids_lost"}
    assert {name for name, one in families.items() if one.type == "counter"} == {
        f"capture_{name}" for name in names
    }
    assert {name for name, one in families.items() if one.type == "gauge"} == {
        f"capture_{name}"
        for name in (
            *("messages_per_s", "late_s", "waiting_bytes", "disk_free_bytes", "held", "lag_ms", "rss_bytes"),
            *("connections", "connection_error"),
        )
    }
    samples = {one.name: one for family in families.values() for one in family.samples}
    assert samples["capture_messages_total"].labels == {"session": "s"}
    assert samples["capture_messages_total"].value == 7
    assert samples["capture_lag_ms"].value == 2.5
    unknown = metrics_text(status.model_copy(update={"lag_ms": None}))
    assert "capture_lag_ms" not in unknown


def _shown(session: Live) -> str:
    console = Console(width=200)
    with console.capture() as shown:
        console.print(overview([session.folder]))
    return shown.get()


@pytest.mark.slow
def test_a_killed_recorder_is_shown_as_dead_and_its_successor_counts_on(tmp_path: Path) -> None:
    """Closed connections are not shown; status, metadata and file agree on the count of messages."""
    with live(tmp_path, speed=1) as session:
        session.start()
        session.wait(lambda status: status.messages > 100 and status.books == {"BTCUSDT": "synced"})
        session.kill()
        left = session.status()
        state, status = session_state(session.folder)
        assert left is not None
        assert status is not None
        assert left.connections
        assert (state, status.connections, status.messages_per_s, status.books) == (
            "interrupted",
            [],
            0.0,
            {},
        )
        assert (status.dead_since_ns, status.messages) == (left.updated_ns, left.messages)
        assert f"pid {left.pid}, dead since 20" in _shown(session)
        assert "connection 1" not in _shown(session)
        assert "/s" not in _shown(session)
        session.start()
        rates = [session.wait(lambda status: status.messages_per_s > 0).messages_per_s]
        later = session.wait(lambda status: status.messages > left.messages + 100)
        assert session.process is not None
        assert session_document(session.folder)["state"] == "recording"
        rates.append(later.messages_per_s)
        session.process.send_signal(signal.SIGUSR1)
        assert session.wait_for_end()[0] == 0
        lines = [
            json.loads(line) for line in gzip.decompress(session.folder.recording.read_bytes()).splitlines()
        ]
        own = [
            line["capture_ns"]
            for line in lines
            if "Snapshot" not in line["stream"] and line["capture_ns"] > left.updated_ns
        ]
        true = len(own) / (own[-1] - own[0]) * 1e9
        assert rates == pytest.approx([true, true], rel=0.6)
        ended = session.status()
        assert ended is not None
        assert sum("Snapshot" in line["stream"] for line in lines) >= 2
        assert ended.messages == session.metadata.statistics["messages"] == len(lines)


@pytest.mark.slow
def test_a_recorder_that_reports_nothing_is_shown_with_its_last_status(tmp_path: Path) -> None:
    """The row appears after `OLD_S` without a status, and disappears when the recorder goes on."""
    with live(tmp_path) as session:
        session.start()
        session.recording()
        assert session.process is not None
        session.process.send_signal(signal.SIGSTOP)
        try:
            left = _settled(session)
            assert "no status since" not in _command(session)
            assert time.time_ns() - left.updated_ns < OLD_S * 1e9
            while time.time_ns() - left.updated_ns < (OLD_S + 1) * 1e9:
                time.sleep(0.2)
            shown = _command(session)
        finally:
            session.process.send_signal(signal.SIGCONT)
        since = iso(left.updated_ns // 10**9 * 10**6)
        assert f"pid {left.pid}, no status since {since}" in shown
        assert f"{session.folder.session}: recording" in shown
        assert "connection 1" not in shown
        session.recording()
        assert "no status since" not in _command(session)
        session.finish()


def _settled(session: Live) -> Status:
    """Return the last status of a recorder that is stopped."""
    while True:
        before = session.status()
        time.sleep(0.5)
        after = session.status()
        if after is not None and after == before:
            return after


def _command(session: Live) -> str:
    """Return the output of `capture session status`."""
    return subprocess.run(
        [CAPTURE, "session", "status"],
        env={**os.environ, **session.sandbox.environment(), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.slow
def test_a_resumed_recorder_knows_every_line_before_it_writes_one(tmp_path: Path) -> None:
    """The count includes lines before the last checkpoint that belong to no trade or diff stream."""
    with live(tmp_path) as session:
        session.start()
        session.wait(
            lambda status: status.books == {"BTCUSDT": "synced"} and session.folder.checkpoint.exists()
        )
        assert session.process is not None
        session.process.send_signal(signal.SIGINT)
        assert session.wait_for_end()[0] == 130
        count = len(gzip.decompress(session.folder.growing.read_bytes()).splitlines())
        assert (session.status() or pytest.fail("no status")).messages == count
        session.start(CAPTURE_SANDBOX_URL="http://127.0.0.1:9")
        resumed = session.wait(lambda status: bool(status.last_error))
        assert (resumed.state, resumed.messages, resumed.messages_per_s) == ("connecting", count, 0.0)
        session.kill()


@pytest.mark.slow
def test_who_follows_hears_nothing_of_a_recorder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first status is that of the new recorder, though a killed one left its own."""
    with live(tmp_path) as session:
        session.start()
        session.recording()
        session.kill()
        left = session.status()
        for name, value in session.sandbox.environment().items():
            monkeypatch.setenv(name, value)
        following = follow(session.folder)
        assert next(following) is None
        first = next(status for status in following if status is not None)
        assert left is not None
        assert first.pid != left.pid
        session.folder.ending.write_text('{"state": "interrupted"}')
        assert all(status is None or status.pid == first.pid for status in following)


@pytest.mark.slow
def test_a_planned_session_begins_in_time_and_a_late_one_says_so(tmp_path: Path) -> None:
    """A recorder waits, begins some seconds before the start, and its books are synchronized at the start."""
    with live(tmp_path, seconds=4) as session:
        start_us = time.time_ns() // 1000 + round((LEAD_S + 3) * 1e6)
        session.plan(start_us=start_us)
        assert session_state(session.folder) == ("planned", None)
        session.start()
        waiting = session.wait(lambda status: status.state == "waiting")
        assert (waiting.messages, waiting.connections, waiting.last_error) == (0, [], "")
        synced = session.wait(lambda status: status.books == {"BTCUSDT": "synced"})
        assert synced.updated_ns < start_us * 1000
        assert session.wait_for_end()[0] == 0
        metadata = session.metadata
        assert metadata.started_ns is not None
        assert metadata.ended_ns is not None
        assert start_us - LEAD_S * 1e6 <= metadata.started_ns / 1000 < start_us
        assert metadata.ended_ns / 1000 >= start_us + 3.9e6
        assert metadata.statistics["late_s"] == 0


@pytest.mark.slow
def test_a_session_that_begins_late_says_by_how_much(tmp_path: Path) -> None:
    """The delay is in the status, in the output and in the metadata."""
    with live(tmp_path) as session:
        session.plan(start_us=time.time_ns() // 1000 - 30_000_000)
        session.start()
        status = session.wait(lambda status: status.messages > 50)
        assert 30 <= status.late_s < 45
        assert f"began {status.late_s:.0f} s late" in _shown(session)
        session.finish()
        assert session.metadata.statistics["late_s"] == pytest.approx(status.late_s, abs=0.002)
