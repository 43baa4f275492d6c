"""Sessions recorded by real processes under faults of streams, processes and disks."""

from __future__ import annotations

import json
import resource
import signal
import time
from pathlib import Path

import pytest
import requests

from capture_pipeline.recorder.lifecycle import list_open_sessions, prepare, sessions_root, stop
from capture_pipeline.sessions.lock import lock_owner_pid
from capture_pipeline.sessions.models import Cause, RefillState
from capture_pipeline_tests.support.sessions.recorder import Live, live

pytestmark = pytest.mark.slow

ONE_CONNECTION: list[tuple[str, dict[str, int]]] = [
    ("ws_cut", {}),
    ("ws_reset", {}),
    ("ws_close", {"code": 1000}),
    ("ws_close", {"code": 1001}),
    ("ws_close", {"code": 1008}),
    ("ws_close", {"code": 1011}),
    ("ws_close", {"code": 1012}),
    ("ws_shutdown", {"lag_s": 5}),
    ("ws_silent", {}),
    ("ws_half_open", {}),
]


def test_a_connection_may_end_in_any_way_without_the_loss_of_an_id(tmp_path: Path) -> None:
    """Each fault hits one of two connections; no id is missing, and each cause is counted."""
    with live(tmp_path) as session:
        session.start()
        _hit_by_each(session, ONE_CONNECTION)
        ranges = session.finish()
        assert not session.gaps
        assert min(len(found) for found in ranges.values()) > 100
        causes = session.metadata.statistics["reconnects_by_cause"]
        assert causes[Cause.CLOSED] >= 7
        assert causes[Cause.SILENCE] >= 2
        assert causes[Cause.SHUTDOWN] >= 1
        codes = {event["detail"][:4] for event in session.events("connection_ended")}
        assert codes >= {"1000", "1001", "1006", "1008", "1011", "1012"}
        assert [audit["clean"] for audit in session.metadata.audits].count(False) == 0


def _hit_by_each(session: Live, faults: list[tuple[str, dict[str, int]]]) -> None:
    """Inject the faults one by one, each into the older connection once both deliver."""
    for fault, parameters in faults:
        session.recording()
        victim = session.connections()[0]
        session.inject_fault(fault, victim, **parameters)
        deadline = time.monotonic() + 20
        while victim in session.connections():
            assert time.monotonic() < deadline, fault
            time.sleep(0.05)
    session.recording()


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "ws_duplicate", "every": 7},
        {"fault": "ws_reorder", "every": 11},
        {"fault": "ws_split", "every": 5, "pieces": 3},
    ],
    ids=lambda rule: rule["fault"],
)
def test_what_comes_twice_out_of_order_or_in_pieces_is_put_right(
    rule: dict[str, object], tmp_path: Path
) -> None:
    """Both connections repeat, reorder or split messages; no id is lost or recorded twice."""
    with live(tmp_path) as session:
        session.sandbox.faults({**rule, "times": "always"})
        session.start()
        session.wait(lambda status: status.messages > 300)
        session.finish()
        assert session.sandbox.injected() > 3
        assert not session.gaps


def test_ids_that_the_exchange_never_sends_are_a_gap_of_its_own(tmp_path: Path) -> None:
    """The ledger lists them, the book needs a snapshot, and lost trades are requested."""
    with live(tmp_path) as session:
        rule = {"fault": "ws_drop", "times": 2, "after": 40}
        session.start()
        session.wait(lambda status: status.books == {"BTCUSDT": "synced"})
        session.sandbox.faults(
            {**rule, "match": {"stream": "*@depth*"}}, {**rule, "match": {"stream": "*@trade"}}
        )
        session.wait(
            lambda status: (
                status.gaps == 2
                and status.books == {"BTCUSDT": "synced"}
                and RefillState.COMPLETE in status.refills
            )
        )
        session.finish()
        assert {gap.cause for gap in session.gaps} == {Cause.EXCHANGE}
        by_kind = {gap.recoverable: gap for gap in session.gaps}
        assert by_kind[True].filled_by == "refilled_trades.jsonl"
        lines = [json.loads(line) for line in session.folder.refilled.read_text().splitlines()]
        lost = set(range(by_kind[True].last_good_id + 1, by_kind[True].first_good_id))
        ranges = [set(range(line["agg"]["f"], line["agg"]["l"] + 1)) for line in lines]
        assert all(ids & lost for ids in ranges)
        assert set().union(*ranges) >= lost
        assert by_kind[False].filled_by is None
        assert len(session.events("snapshot")) >= 2


def test_what_is_lost_with_both_connections_stands_in_the_ledger(tmp_path: Path) -> None:
    """The ledger lists exactly the lost ids, with the cause."""
    with live(tmp_path) as session:
        session.start()
        session.recording()
        session.inject_fault("ws_reset", "all")
        session.wait(lambda status: status.gaps == 2)
        session.finish()
        assert {gap.cause for gap in session.gaps} == {Cause.CLOSED}
        assert len(session.gaps) == 2
        assert session.metadata.statistics["ids_lost"] == sum(gap.ids_lost for gap in session.gaps)


def test_a_quiet_market_costs_no_id(tmp_path: Path) -> None:
    """All connections are silent and answer pings: none is closed, so the next message is received."""
    with live(tmp_path) as session:
        session.start()
        session.recording()
        session.sandbox.clock(speed=0)
        before = session.wait(lambda status: min((one.silent_s for one in status.connections), default=0) > 4)
        assert session.limits()["connection_attempts"] == 2
        session.sandbox.clock(speed=20)
        session.wait(lambda status: status.messages > before.messages + 200)
        session.finish()
        assert not session.gaps


def test_killed_twice_and_resumed_it_is_one_file(tmp_path: Path) -> None:
    """SIGKILL and a restart by the same command; the time in between is in the ledger."""
    with live(tmp_path) as session:
        for _ in range(2):
            session.start()
            session.recording()
            session.kill()
        session.start()
        session.wait(lambda status: status.gaps == 4)
        session.finish()
        assert {gap.cause for gap in session.gaps} == {Cause.PROCESS}
        assert len(session.gaps) == 4
        assert len(session.events("recorder_started")) == 3
        assert [path.name for path in session.folder.path.glob("*.gz*")] == [session.folder.recording.name]


def test_one_connection_is_enough_where_it_is_asked_for(tmp_path: Path) -> None:
    """No message waits for a second connection."""
    with live(tmp_path, seconds=4, connections=1) as session:
        session.start()
        session.recording(1)
        assert session.wait_for_end()[0] == 0
        session.check_ids()
        assert not session.gaps
        assert session.metadata.statistics["merge"]["duplicates"] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_session_is_resumed_by_the_same_command_and_finished_by_stop(
    number: signal.Signals, tmp_path: Path
) -> None:
    """It ends within seconds with code 130 and a valid file; a second recorder is refused."""
    with live(tmp_path) as session:
        session.start()
        session.recording()
        settings = session.sandbox.deployment.settings
        assert session.process is not None
        assert lock_owner_pid(session.folder) == session.process.pid
        first, session.process = session.process, None
        session.start()
        code, output = session.wait_for_end()
        assert (code, f"pid {first.pid}" in output) == (2, True)
        session.process = first
        sent = time.monotonic()
        first.send_signal(number)
        assert session.wait_for_end()[0] == 130
        assert time.monotonic() - sent < 10
        assert session.status().state == "interrupted"  # type: ignore[union-attr]
        plan = session.metadata.plan if session.folder.metadata.exists() else None
        assert plan is None
        found = list_open_sessions(sessions_root(settings), "custom", ["BTCUSDT"])
        assert found == [session.folder]
        metadata = stop(session.folder, settings)
        assert metadata is not None
        assert metadata.state == "interrupted"
        session.check_ids()
        assert session.status().state == "interrupted"  # type: ignore[union-attr]


def test_a_session_that_is_not_to_be_resumed_is_set_aside_whole(tmp_path: Path) -> None:
    """Its folder is renamed, and nothing is deleted."""
    with live(tmp_path) as session:
        session.start()
        session.recording()
        session.kill()
        content = session.folder.growing.read_bytes()
        settings = session.sandbox.deployment.settings
        plan = json.loads(session.folder.plan.read_text())
        from capture_pipeline.sessions.models import SessionPlan  # noqa: PLC0415

        later = SessionPlan.model_validate({**plan, "session": "20990101T000000Z_btcusdt"})
        folder = prepare(sessions_root(settings), later, resume_open=False)
        assert folder.session == later.session
        aside = next(path for path in session.folder.path.parent.iterdir() if path.name.startswith(".aside-"))
        assert (aside / session.folder.growing.name).read_bytes() == content
        assert list_open_sessions(sessions_root(settings), "custom", ["BTCUSDT"]) == [folder]


def test_a_full_disk_loses_only_what_does_not_fit_in_the_queue_and_says_so(tmp_path: Path) -> None:
    """A limit on the file causes state `disk` and then a recovery; the ledger lists the dropped messages."""
    with live(tmp_path, speed=400, seconds=600) as session:
        session.start(CAPTURE_RECORDING_QUEUE_MB="1")
        session.recording()
        assert session.process is not None
        pid = session.process.pid
        size = session.folder.growing.stat().st_size
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + 100, resource.RLIM_INFINITY))
        session.wait(lambda status: status.state == "disk" and status.dropped_messages > 0)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        dropped = session.wait(lambda status: status.state == "recording" and status.gaps >= 2)
        assert dropped.trouble == ""
        session.finish()
        assert {gap.cause for gap in session.gaps} == {Cause.DISK}
        assert session.metadata.statistics["dropped_messages"] > 0


def test_numbers_of_a_session_are_served_to_prometheus(tmp_path: Path) -> None:
    """The metrics are on loopback during the recording."""
    import socket  # noqa: PLC0415

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with live(tmp_path) as session:
        session.start(CAPTURE_RECORDING_METRICS_PORT=str(port))
        session.recording()
        text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        label = f'{{session="{session.folder.session}"}}'
        assert float(values[f"capture_messages_total{label}"]) > 0
        assert values[f"capture_connections{label}"] == "2.0"
