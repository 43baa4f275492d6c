"""Events of a recorder: lines of the event log, order of handlers, and counts of a session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from capture_pipeline.recorder.events import (
    BookAudited,
    ClockSampled,
    ClockStepped,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    EventBus,
    GapFound,
    LoggedEvent,
    MessageRejected,
    MetricsFailed,
    NothingCame,
    Outcome,
    RecorderEnded,
    RecordingRepaired,
    RefillEnded,
    ShutdownAnnounced,
    SnapshotRecorded,
    StrayMessageFound,
)
from capture_pipeline.recorder.storage.event_log import EventLog
from capture_pipeline.sessions.counts import MergeCounts, SessionCounts
from capture_pipeline.sessions.models import Cause, Gap, RefillState

GAP = Gap(
    stream="s", last_good_id=1, first_good_id=3, ids_lost=1, start_ns=5, end_ns=9, cause=Cause.DISK,
    recoverable=False
)  # fmt: skip
LINES: list[tuple[LoggedEvent, str]] = [
    (ConnectionOpened(2, 1), '"event": "connection_opened", "connection": 2, "slot": 1'),
    (
        ConnectionClosed(2, Cause.SILENCE, "no data", 7),
        (
            '"event": "connection_ended", "connection": 2, "cause": "silence", "detail": "no data", '
            '"messages": 7'
        ),
    ),
    (
        ConnectionRefused(2, Cause.CLOSED, "HTTP 451", 0),
        (
            '"event": "connection_refused", "connection": 2, "cause": "connection closed", '
            '"detail": "HTTP 451", '
            '"messages": 0'
        ),
    ),
    (ShutdownAnnounced(4), '"event": "serverShutdown", "connection": 4'),
    (MessageRejected("why", b"{"), '"event": "rejected_message", "reason": "why", "base64": "ew=="'),
    (
        StrayMessageFound("s", 1, 2, b"{"),
        '"event": "stray_message", "stream": "s", "first": 1, "last": 2, "base64": "ew=="',
    ),
    (ClockStepped(-2.5), '"event": "clock_step", "step_ms": -2.5'),
    (
        ClockStepped(-2.5, "the recorder before"),
        '"event": "clock_step", "step_ms": -2.5, "since": "the recorder before"',
    ),
    (MetricsFailed(9, None), '"event": "metrics_failed", "port": 9, "error": null'),
    (NothingCame("text"), '"event": "nothing_came", "what": "text"'),
    (RecordingRepaired("text"), '"event": "mended", "what": "text"'),
    (
        RecorderEnded(Outcome.STOPPED, written=True),
        '"event": "recorder_ended", "outcome": "stopped", "written": true',
    ),
    (
        RefillEnded("s", 1, RefillState.REFUSED, 0),
        (
            '"event": "refill_ended", "stream": "s", "after": 1, "state": "refused, archive pending", '
            '"ids_refilled": 0'
        ),
    ),
]


@pytest.mark.parametrize(("event", "values"), LINES)
def test_line_of_an_event_has_its_name_and_its_values(
    tmp_path: Path, event: LoggedEvent, values: str
) -> None:
    """The line also has the time of the publication."""
    EventLog(tmp_path / "events.jsonl", lambda: 17).write(event)
    assert (tmp_path / "events.jsonl").read_text() == f'{{"capture_ns": 17, {values}}}\n'


@pytest.mark.parametrize(
    ("event", "values"),
    [
        (
            SnapshotRecorded(9, "BTCUSDT", "audit"),
            '"event": "snapshot", "symbol": "BTCUSDT", "reason": "audit"',
        ),
        (ClockSampled(9, 0.5, 1.5), '"event": "clock_sample", "offset_ms": 0.5, "round_trip_ms": 1.5'),
        (
            BookAudited({"capture_ns": 9, "symbol": "BTCUSDT", "clean": True}),
            '"event": "audit", "symbol": "BTCUSDT", "clean": true',
        ),
        (GapFound(GAP), f'"event": "gap", {json.dumps(GAP.model_dump(mode="json"))[1:-1]}'),
    ],
)
def test_line_of_a_measured_event_has_the_time_of_its_value(
    tmp_path: Path, event: LoggedEvent, values: str
) -> None:
    """A gap has the time of the message after it."""
    EventLog(tmp_path / "events.jsonl", lambda: 17).write(event)
    assert (tmp_path / "events.jsonl").read_text() == f'{{"capture_ns": 9, {values}}}\n'


def test_log_stores_the_first_thousand_raw_messages_of_each_type(tmp_path: Path) -> None:
    """A changed format of the exchange affects every message."""
    log = EventLog(tmp_path / "events.jsonl", lambda: 17)
    for _ in range(1001):
        log.write(MessageRejected("why", b"{"))
    log.write(StrayMessageFound("s", 1, 2, b"{"))
    names = [json.loads(line)["event"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert names == ["rejected_message"] * 1000 + ["stray_message"]


def test_handlers_of_a_type_and_its_supertypes_are_called_in_order() -> None:
    """The log subscribes first, so a line precedes what other parts do."""
    events, calls = EventBus(), list[str]()
    events.subscribe(LoggedEvent, lambda _: calls.append("log"))
    events.subscribe(ConnectionOpened, lambda event: calls.append(f"opened {event.connection}"))
    events.subscribe(ConnectionClosed, lambda _: calls.append("closed"))
    events.publish(ConnectionOpened(1, 0))
    assert calls == ["log", "opened 1"]


def test_counts_are_the_same_after_a_checkpoint() -> None:
    """An unknown name of a newer version is ignored, and a count of a rare incident is absent at 0."""
    counts = SessionCounts(MergeCounts(passed=5, late=1), received=7, dropped_messages=2, clock_steps=1)
    counts.connection_ends[Cause.SILENCE] += 3
    stored = counts.by_name()
    assert stored["ended by silence"] == 3
    assert "malformed_diffs" not in stored
    assert SessionCounts.parse(stored | {"unknown": 4}) == counts
    assert counts.listed == 3
