"""The small parts of the recorder: clock, ledger, journal, intake, lines, plan, lock and layout."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capture_pipeline.binance.periods import iso, parse_time
from capture_pipeline.errors import BusyError, ConfigError, MalformedDataError, StorageError
from capture_pipeline.recorder.background.book_follower import MAX_PENDING, BookFollower
from capture_pipeline.recorder.events import EventBus, MessageRejected, ShutdownAnnounced
from capture_pipeline.recorder.ordering.clock import CaptureClock
from capture_pipeline.recorder.ordering.gap_tracker import Ledger, MessageTime, Outage
from capture_pipeline.recorder.ordering.ingress import Intake
from capture_pipeline.recorder.pipeline import RecordingPipeline
from capture_pipeline.recorder.storage.journal import Journal
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.sessions.counts import SessionCounts
from capture_pipeline.sessions.layout import (
    SessionFolder,
    session_id,
    symbols_label,
    valid_regime,
    valid_session,
)
from capture_pipeline.sessions.line_format import decode_line, format_line, splice_line, split_envelope
from capture_pipeline.sessions.lock import lock_owner_pid, session_lock
from capture_pipeline.sessions.models import Cause
from capture_pipeline.sessions.schedule import list_windows
from capture_pipeline.settings.sessions import PlannedSession, Recording, Weekday
from capture_pipeline_tests.support.sessions.desk import create_pipeline

TRADES, DEPTH = "btcusdt@trade", "btcusdt@depth@100ms"


class Clocks:
    """A wall clock and a monotonic clock that the test sets."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_000_000, 0

    def go(self, ns: int) -> None:
        """Advance both clocks."""
        self.wall += ns
        self.monotonic += ns

    def clock(self, floor: int = 0) -> CaptureClock:
        """Create a capture clock on these clocks."""
        return CaptureClock(floor, wall=lambda: self.wall, monotonic=lambda: self.monotonic)


def test_stamps_follow_the_time_and_never_repeat() -> None:
    """Two times in the same nanosecond differ by one."""
    clocks = Clocks()
    clock = clocks.clock()
    assert [clock.stamp(clock.now_ns()), clock.stamp(clock.now_ns())] == [1_000_000, 1_000_001]
    clocks.go(500)
    assert clock.stamp(clock.now_ns()) == 1_000_500


def test_a_step_of_the_wall_clock_moves_no_stamp_and_is_told_once() -> None:
    """The step is backwards or forwards."""
    clocks = Clocks()
    clock = clocks.clock()
    clocks.wall -= 700_000
    assert clock.stamp(clock.now_ns()) == 1_000_000
    assert clock.step_ns(50_000) == -700_000
    assert clock.step_ns(50_000) == 0
    clocks.wall += 40_000
    assert clock.step_ns(50_000) == 0
    clocks.wall += 40_000
    assert clock.step_ns(50_000) == 80_000


def test_a_new_process_stamps_behind_the_last_one() -> None:
    """The wall clock was set back; the capture clock continues from the last time."""
    clocks = Clocks()
    clock = clocks.clock(floor=5_000_000)
    assert clock.stamp(clock.now_ns()) == 5_000_001
    clocks.go(700)
    assert clock.stamp(clock.now_ns()) == 5_000_701


@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 10**6)), max_size=50))
def test_stamps_increase_whatever_the_wall_clock_does(steps: list[tuple[int, int]]) -> None:
    """The test generates steps and waits of any length."""
    clocks = Clocks()
    clock = clocks.clock()
    stamps = []
    for step, passed in steps:
        clocks.wall += step
        clocks.go(passed)
        stamps.append(clock.stamp(clock.now_ns()))
    assert stamps == sorted(set(stamps))


def test_a_gap_names_both_edges_and_the_outage_it_lies_in() -> None:
    """Of several outages, a total one is the cause."""
    ledger = Ledger()
    assert ledger.count_message(TRADES, 1, 1, MessageTime(100)) is None
    ledger.begin(Outage(Cause.SHUTDOWN, "one of two", 150, 150, total=False))
    ledger.begin(Outage(Cause.SILENCE, "both", 120, 180))
    gap = ledger.count_message(TRADES, 5, 5, MessageTime(200))
    assert gap is not None
    assert (gap.last_good_id, gap.first_good_id, gap.ids_lost, gap.start_ns, gap.end_ns) == (
        1,
        5,
        3,
        100,
        200,
    )
    assert (gap.cause, gap.detail, gap.recoverable) == (Cause.SILENCE, "both", True)


def test_a_gap_without_an_outage_is_the_exchanges_own() -> None:
    """Lost diffs cannot be requested."""
    ledger = Ledger()
    ledger.begin(Outage(Cause.SILENCE, "long ago", 1, 2))
    ledger.count_message(DEPTH, 1, 10, MessageTime(100))
    assert ledger.count_message(DEPTH, 11, 20, MessageTime(150)) is None
    gap = ledger.count_message(DEPTH, 31, 40, MessageTime(200))
    assert gap is not None
    assert (gap.cause, gap.recoverable, gap.ids_lost) == (Cause.EXCHANGE, False, 10)


def test_an_outage_that_still_lasts_is_a_cause() -> None:
    """The first message after a loss can arrive before the end of the outage is recorded."""
    ledger = Ledger()
    ledger.count_message(TRADES, 1, 1, MessageTime(100))
    ledger.begin(Outage(Cause.DISK, "full", 150))
    gap = ledger.count_message(TRADES, 3, 3, MessageTime(900))
    assert gap is not None
    assert gap.cause is Cause.DISK


def test_the_journal_only_grows_and_reads_back(tmp_path: Path) -> None:
    """The journal is opened twice."""
    path = tmp_path / "x.gz"
    for number in range(2):
        with Journal(path) as journal:
            journal.append(b"line %d\n" % number, 1)
            journal.sync()
            assert journal.size == path.stat().st_size
    assert gzip.decompress(path.read_bytes()) == b"line 0\nline 1\n"


_FULL = """
import resource, sys
from pathlib import Path
from capture_pipeline.errors import StorageError
from capture_pipeline.recorder.storage.journal import Journal
import signal, os
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
journal = Journal(path)
journal.append(b"kept\\n", 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (journal.size + 40, resource.RLIM_INFINITY))
try:
    journal.append(os.urandom(3000).hex().encode() + b"\\n", 1)
except StorageError as error:
    print(error)
print("bytes left:", path.stat().st_size - journal.size)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(b"after\\n", 1)
"""


def test_a_batch_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    """A real short write within the member; the next batch follows the whole members."""
    path = tmp_path / "x.gz"
    done = subprocess.run([sys.executable, "-c", _FULL, path], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert done.stdout.endswith("bytes left: 0\n")
    assert gzip.decompress(path.read_bytes()) == b"kept\nafter\n"


def test_a_failed_fsync_is_not_tried_again(tmp_path: Path) -> None:
    """The kernel may have dropped the pages, so nothing more is appended to the file."""
    journal = Journal(tmp_path / "x.gz")
    os.close(journal._descriptor)
    with pytest.raises((StorageError, OSError)):
        journal.sync()
    assert journal.is_suspect
    with pytest.raises(StorageError, match="an earlier fsync failed"):
        journal.sync()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{"stream":"btcusdt@trade","data":{"t":"5"}}', "Expected `int`"),
        (b'{"stream":"btcusdt@trade","data":{"t":-5,"E":1}}', "int"),
        (b'{"stream":"btcusdt@trade","data":{"t":5}', "truncated"),
        (b'{"stream":"btcusdt@depth@100ms","data":{"U":9,"u":5,"E":1}}', "covers the ids 9..5"),
        (b'{"stream":"btcusdt@trade","data":{"t":5,"E":1,"x":"\xff"}}', "utf-8"),
        (b'{"stream": "btcusdt@trade", "data": {"t":5,"E":1}}', "not a message of the combined stream"),
        (b'{"stream":"btcusdt@trade","data":{"t":5,\n"E":1}}', "not a message of the combined stream"),
        (b'{"stream":"ethusdt@trade","data":{"t":5,"E":1}}', "is not subscribed"),
        (b'{"result":null,"id":1}', "not a message of the combined stream"),
        (b"", "not a message of the combined stream"),
    ],
)
def test_what_cannot_be_a_line_is_kept_apart_with_its_reason(raw: bytes, expected: str) -> None:
    """It is counted, and no message is created."""
    rejected: list[MessageRejected] = []
    counts, events = SessionCounts(), EventBus()
    events.subscribe(MessageRejected, rejected.append)
    intake = Intake([TRADES, DEPTH], counts, events)
    assert intake.place(1, raw, 0) is None
    assert expected in rejected[0].reason
    assert counts.rejected_messages == 1


def test_a_message_is_placed_by_its_ids() -> None:
    """Trades by `t`, diffs by `U..u`; a shutdown notice is reported."""
    reports: list[ShutdownAnnounced] = []
    events = EventBus()
    events.subscribe(ShutdownAnnounced, reports.append)
    intake = Intake([TRADES, DEPTH], SessionCounts(), events)
    trade = intake.place(1, b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"t":7}}', 5)
    diff = intake.place(2, b'{"stream":"btcusdt@depth@100ms","data":{"E":1,"U":3,"u":8,"b":[],"a":[]}}', 6)
    assert trade is not None
    assert diff is not None
    assert (trade.first, trade.last, diff.first, diff.last) == (7, 7, 3, 8)
    assert intake.place(2, b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}', 6) is None
    assert [one.connection for one in reports] == [2]


@given(st.binary(max_size=60))
def test_a_line_holds_the_exchanges_bytes_unchanged(noise: bytes) -> None:
    """The test generates data that are JSON on one line."""
    data = json.dumps({"x": noise.decode("latin-1")}, separators=(",", ":")).encode()
    raw = b'{"stream":"a@trade","data":%b}' % data
    name, start = split_envelope(raw)
    line = splice_line(17, raw)
    parsed = decode_line(line)
    assert (name, bytes(raw[start:-1]), bytes(parsed.data), parsed.capture_ns, parsed.stream) == (
        "a@trade",
        data,
        data,
        17,
        "a@trade",
    )
    assert format_line(17, "a@trade", data) == line


def test_bare_data_with_a_line_break_are_refused() -> None:
    """They would be two lines."""
    with pytest.raises(MalformedDataError):
        format_line(1, "x@depthSnapshot", b"{\n}")


def test_a_weekly_session_is_due_every_week_at_its_time() -> None:
    """The result contains all windows that overlap the range."""
    plan = [PlannedSession(regime="low_volume", weekday=Weekday.SAT, time=dt.time(2, 0), duration_hours=24)]
    found = list_windows(plan, parse_time("2026-08-08T12:00:00Z"), parse_time("2026-08-22T00:00:00Z"))
    assert [iso(window.start_us) for window in found] == ["2026-08-08T02:00:00Z", "2026-08-15T02:00:00Z"]
    assert found[0].session == "20260808T020000Z_low_volume_btcusdt"


def test_a_dated_session_is_due_once() -> None:
    """A range without the date contains no session."""
    plan = [
        PlannedSession(regime="special_event", date=dt.date(2026, 8, 7), time=dt.time(8, 0), duration_hours=2)
    ]
    assert (
        len(list_windows(plan, parse_time("2026-08-07T09:59:59Z"), parse_time("2026-08-08T00:00:00Z"))) == 1
    )
    assert not list_windows(plan, parse_time("2026-08-07T10:00:00Z"), parse_time("2026-09-08T00:00:00Z"))


@pytest.mark.parametrize("days", [{}, {"weekday": "mon", "date": "2026-08-07"}])
def test_a_session_has_either_a_weekday_or_a_date(days: dict[str, str]) -> None:
    """Neither and both are refused."""
    with pytest.raises(ValueError, match="either a weekday or a date"):
        PlannedSession.model_validate({"regime": "x", **days})


def test_one_writer_a_session(tmp_path: Path) -> None:
    """The error of the second one names the first; the lock ends with the process."""
    folder = SessionFolder(tmp_path / "20260803T143000Z_btcusdt")
    assert lock_owner_pid(folder) is None
    with session_lock(folder):
        assert lock_owner_pid(folder) == os.getpid()
        with pytest.raises(BusyError, match=f"pid {os.getpid()}"), session_lock(folder):
            pass
    assert lock_owner_pid(folder) is None


@pytest.mark.parametrize("name", ["../x", "A", "", "a/b", "a\n", "x" * 41, "-x"])
def test_a_regime_cannot_lead_out_of_its_folder(name: str) -> None:
    """A session id cannot either."""
    with pytest.raises(ConfigError):
        valid_regime(name)
    with pytest.raises(ConfigError):
        valid_session(name)


def test_names_of_sessions() -> None:
    """The names follow the documentation."""
    assert symbols_label(["BTCUSDT"]) == "btcusdt"
    assert re.fullmatch("s0-plus9-[0-9a-f]{4}", symbols_label([f"S{n}" for n in range(10)]))
    session = session_id(["BTCUSDT"], parse_time("2026-08-03T14:30:00Z"), "high_volume")
    folder = SessionFolder.under(Path("/x"), "high_volume", session)
    assert str(folder.recording) == (
        "/x/high_volume/20260803T143000Z_high_volume_btcusdt/btcusdt_capture_20260803T143000Z.jsonl.gz"
    )


def test_the_recorder_loads_neither_dagster_nor_polars() -> None:
    """It starts fast and needs little memory."""
    code = (
        "import sys, capture_pipeline.recorder.__main__; print([n for n in "
        "('dagster','polars','pyarrow','numba') if n in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_what_is_lost_at_the_very_end_is_counted(tmp_path: Path) -> None:
    """No later message shows the loss: the disk refuses, and there is no room for pending messages."""
    folder = SessionFolder(tmp_path)
    writer = Writer(folder, segment=1, max_waiting_bytes=10, fsync_s=1)
    capture = create_pipeline(writer, [TRADES], Recording(flush_messages=2))
    for number in range(3):
        capture.receive(1, b'{"stream":"btcusdt@trade","data":{"E":1,"t":%d}}' % number)
    capture.finish()
    assert (capture.counts.dropped_messages, capture.counts.tail_dropped_messages) == (1, 1)


@pytest.mark.parametrize("levels", [b'[["one","2.0"]]', b'[["1.0","2,0"]]', b"{}", b"null", b'[["1.0"]]'])
def test_a_diff_that_is_none_is_recorded_and_told(tmp_path: Path, levels: bytes) -> None:
    """A diff with ids and malformed levels is recorded and reported once; the book waits for a snapshot."""
    reports: list[str] = []
    follower = BookFollower(["BTCUSDT"], lambda symbol, _: reports.append(symbol))
    capture = capturing(tmp_path, follower)
    form = b'{"stream":"btcusdt@depth@100ms","data":{"E":1,"s":"BTCUSDT","U":%d,"u":%d,"b":%b,"a":[]}}'
    capture.receive(1, form % (1, 1, b'[["1.0","2.0"]]'))
    assert follower.apply_snapshot("BTCUSDT", b'{"lastUpdateId":0,"bids":[],"asks":[]}')
    assert follower.states() == {"BTCUSDT": "synced"}
    capture.receive(1, form % (2, 2, levels))
    follower.begin_audits()
    capture.finish()
    assert (reports, follower.states(), follower.list_wanted_symbols()) == (
        ["BTCUSDT"],
        {"BTCUSDT": "invalid"},
        ["BTCUSDT"],
    )
    assert capture.messages == 2


def test_a_diff_that_is_none_is_told_before_long(tmp_path: Path) -> None:
    """Without an audit, because levels are parsed in groups of some hundred diffs."""
    reports: list[str] = []
    follower = BookFollower(["BTCUSDT"], lambda symbol, _: reports.append(symbol))
    capture = capturing(tmp_path, follower)
    form = b'{"stream":"btcusdt@depth@100ms","data":{"E":1,"s":"BTCUSDT","U":%d,"u":%d,"b":%b,"a":[]}}'
    capture.receive(1, form % (1, 1, b"{}"))
    capture.receive(1, form % (2, 2, b"[]"))
    assert follower.apply_snapshot("BTCUSDT", b'{"lastUpdateId":0,"bids":[],"asks":[]}')
    for number in range(3, MAX_PENDING + 1):
        capture.receive(1, form % (number, number, b"[]"))
    assert (reports, follower.states()) == (["BTCUSDT"], {"BTCUSDT": "invalid"})


def capturing(folder: Path, follower: BookFollower) -> RecordingPipeline:
    writer = Writer(SessionFolder(folder), segment=1, max_waiting_bytes=1 << 20, fsync_s=1)
    return create_pipeline(writer, [DEPTH], Recording(), on_diff=follower.apply_diff)
