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
from capture_pipeline.orderbook.texts import MAX_PENDING
from capture_pipeline.recorder.background.book_follower import Follower
from capture_pipeline.recorder.ordering.clock import CaptureClock
from capture_pipeline.recorder.ordering.gap_tracker import Ledger, MessageTime, Outage
from capture_pipeline.recorder.ordering.ingress import Intake
from capture_pipeline.recorder.pipeline import Hooks, RecordingPipeline
from capture_pipeline.recorder.storage.journal import Journal
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.sessions.layout import SessionFolder, label_of, session_id, valid_regime, valid_session
from capture_pipeline.sessions.line_format import decode_line, format_line, splice_line, split_envelope
from capture_pipeline.sessions.lock import lock_owner_pid, session_lock
from capture_pipeline.sessions.models import Cause
from capture_pipeline.sessions.schedule import windows
from capture_pipeline.settings.sessions import PlannedSession, Recording, Weekday

TRADES, DEPTH = "btcusdt@trade", "btcusdt@depth@100ms"


class Clocks:
    """A wall clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_000_000, 0

    def go(self, ns: int) -> None:
        """Time passes."""
        self.wall += ns
        self.monotonic += ns

    def clock(self, floor: int = 0) -> CaptureClock:
        """A clock on these."""
        return CaptureClock(floor, wall=lambda: self.wall, monotonic=lambda: self.monotonic)


def test_stamps_follow_the_time_and_never_repeat() -> None:
    """Two in the same nanosecond are one apart."""
    clocks = Clocks()
    clock = clocks.clock()
    assert [clock.stamp(clock.now_ns()), clock.stamp(clock.now_ns())] == [1_000_000, 1_000_001]
    clocks.go(500)
    assert clock.stamp(clock.now_ns()) == 1_000_500


def test_a_step_of_the_wall_clock_moves_no_stamp_and_is_told_once() -> None:
    """Back or forward."""
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
    """Even where the wall clock was set back in between; from there time goes on at its own pace."""
    clocks = Clocks()
    clock = clocks.clock(floor=5_000_000)
    assert clock.stamp(clock.now_ns()) == 5_000_001
    clocks.go(700)
    assert clock.stamp(clock.now_ns()) == 5_000_701


@given(st.lists(st.tuples(st.integers(-(10**9), 10**9), st.integers(0, 10**6)), max_size=50))
def test_stamps_increase_whatever_the_wall_clock_does(steps: list[tuple[int, int]]) -> None:
    """Any steps, any time passing."""
    clocks = Clocks()
    clock = clocks.clock()
    stamps = []
    for step, passed in steps:
        clocks.wall += step
        clocks.go(passed)
        stamps.append(clock.stamp(clock.now_ns()))
    assert stamps == sorted(set(stamps))


def test_a_gap_names_both_edges_and_the_outage_it_lies_in() -> None:
    """Of several outages a total one is the cause."""
    ledger = Ledger()
    assert ledger.see(TRADES, 1, 1, MessageTime(100)) is None
    ledger.begin(Outage(Cause.SHUTDOWN, "one of two", 150, 150, total=False))
    ledger.begin(Outage(Cause.SILENCE, "both", 120, 180))
    gap = ledger.see(TRADES, 5, 5, MessageTime(200))
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
    """And of diffs nothing can be asked for again."""
    ledger = Ledger()
    ledger.begin(Outage(Cause.SILENCE, "long ago", 1, 2))
    ledger.see(DEPTH, 1, 10, MessageTime(100))
    assert ledger.see(DEPTH, 11, 20, MessageTime(150)) is None
    gap = ledger.see(DEPTH, 31, 40, MessageTime(200))
    assert gap is not None
    assert (gap.cause, gap.recoverable, gap.ids_lost) == (Cause.EXCHANGE, False, 10)


def test_an_outage_that_still_lasts_is_a_cause() -> None:
    """The first message after a loss can come before its end is noted."""
    ledger = Ledger()
    ledger.see(TRADES, 1, 1, MessageTime(100))
    ledger.begin(Outage(Cause.DISK, "full", 150))
    gap = ledger.see(TRADES, 3, 3, MessageTime(900))
    assert gap is not None
    assert gap.cause is Cause.DISK


def test_the_journal_only_grows_and_reads_back(tmp_path: Path) -> None:
    """Also over two openings."""
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
    """A real short write: the limit lies in the middle of the member; what comes later follows what was whole."""
    path = tmp_path / "x.gz"
    done = subprocess.run([sys.executable, "-c", _FULL, path], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert done.stdout.endswith("bytes left: 0\n")
    assert gzip.decompress(path.read_bytes()) == b"kept\nafter\n"


def test_a_failed_fsync_is_not_tried_again(tmp_path: Path) -> None:
    """The kernel may have dropped the pages: the file takes nothing more."""
    journal = Journal(tmp_path / "x.gz")
    os.close(journal._descriptor)
    with pytest.raises((StorageError, OSError)):
        journal.sync()
    assert journal.is_suspect
    with pytest.raises(StorageError, match="an earlier fsync failed"):
        journal.sync()


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b'{"stream":"btcusdt@trade","data":{"t":"5"}}', "Expected `int`"),
        (b'{"stream":"btcusdt@trade","data":{"t":-5,"E":1}}', "int"),
        (b'{"stream":"btcusdt@trade","data":{"t":5}', "truncated"),
        (b'{"stream":"btcusdt@depth@100ms","data":{"U":9,"u":5,"E":1}}', "covers the ids 9..5"),
        (b'{"stream":"btcusdt@trade","data":{"t":5,"E":1,"x":"\xff"}}', "utf-8"),
        (b'{"stream": "btcusdt@trade", "data": {"t":5,"E":1}}', "no message of the combined stream"),
        (b'{"stream":"btcusdt@trade","data":{"t":5,\n"E":1}}', "no message of the combined stream"),
        (b'{"stream":"ethusdt@trade","data":{"t":5,"E":1}}', "was not asked for"),
        (b'{"result":null,"id":1}', "no message of the combined stream"),
        (b"", "no message of the combined stream"),
    ],
)
def test_what_cannot_be_a_line_is_kept_apart_with_its_reason(raw: bytes, told: str) -> None:
    """It is counted, and no message comes of it."""
    reasons: list[str] = []
    intake = Intake([TRADES, DEPTH], lambda _: None, lambda reason, _: reasons.append(reason))
    assert intake.place(1, raw, 0) is None
    assert told in reasons[0]
    assert intake.rejected == 1


def test_a_message_is_placed_by_its_ids() -> None:
    """Trades by `t`, diffs by `U..u`; a shutdown is told."""
    told: list[int] = []
    intake = Intake([TRADES, DEPTH], told.append, lambda *_: None)
    trade = intake.place(1, b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1,"t":7}}', 5)
    diff = intake.place(2, b'{"stream":"btcusdt@depth@100ms","data":{"E":1,"U":3,"u":8,"b":[],"a":[]}}', 6)
    assert trade is not None
    assert diff is not None
    assert (trade.first, trade.last, diff.first, diff.last) == (7, 7, 3, 8)
    assert intake.place(2, b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}', 6) is None
    assert told == [2]


@given(st.binary(max_size=60))
def test_a_line_holds_the_exchanges_bytes_unchanged(noise: bytes) -> None:
    """Whatever they are, as long as they are JSON on one line."""
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
    """Windows that touch the span are shown, also one that is on."""
    plan = [PlannedSession(regime="low_volume", weekday=Weekday.SAT, time=dt.time(2, 0), duration_hours=24)]
    found = windows(plan, parse_time("2026-08-08T12:00:00Z"), parse_time("2026-08-22T00:00:00Z"))
    assert [iso(window.start_us) for window in found] == ["2026-08-08T02:00:00Z", "2026-08-15T02:00:00Z"]
    assert found[0].session == "20260808T020000Z_low_volume_btcusdt"


def test_a_dated_session_is_due_once() -> None:
    """And not outside its time."""
    plan = [
        PlannedSession(regime="special_event", date=dt.date(2026, 8, 7), time=dt.time(8, 0), duration_hours=2)
    ]
    assert len(windows(plan, parse_time("2026-08-07T09:59:59Z"), parse_time("2026-08-08T00:00:00Z"))) == 1
    assert not windows(plan, parse_time("2026-08-07T10:00:00Z"), parse_time("2026-09-08T00:00:00Z"))


@pytest.mark.parametrize("days", [{}, {"weekday": "mon", "date": "2026-08-07"}])
def test_a_session_has_either_a_weekday_or_a_date(days: dict[str, str]) -> None:
    """Neither and both are refused."""
    with pytest.raises(ValueError, match="either a weekday or a date"):
        PlannedSession.model_validate({"regime": "x", **days})


def test_one_writer_a_session(tmp_path: Path) -> None:
    """The second one is told who holds it; the lock goes with its process, not with a file."""
    folder = SessionFolder(tmp_path / "20260803T143000Z_btcusdt")
    assert lock_owner_pid(folder) is None
    with session_lock(folder):
        assert lock_owner_pid(folder) == os.getpid()
        with pytest.raises(BusyError, match=f"pid {os.getpid()}"), session_lock(folder):
            pass
    assert lock_owner_pid(folder) is None


@pytest.mark.parametrize("name", ["../x", "A", "", "a/b", "a\n", "x" * 41, "-x"])
def test_a_regime_cannot_lead_out_of_its_folder(name: str) -> None:
    """Neither can a session."""
    with pytest.raises(ConfigError):
        valid_regime(name)
    with pytest.raises(ConfigError):
        valid_session(name)


def test_names_of_sessions() -> None:
    """As documented."""
    assert label_of(["BTCUSDT"]) == "btcusdt"
    assert re.fullmatch("s0-plus9-[0-9a-f]{4}", label_of([f"S{n}" for n in range(10)]))
    session = session_id(["BTCUSDT"], parse_time("2026-08-03T14:30:00Z"), "high_volume")
    folder = SessionFolder.under(Path("/x"), "high_volume", session)
    assert str(folder.recording) == (
        "/x/high_volume/20260803T143000Z_high_volume_btcusdt/btcusdt_capture_20260803T143000Z.jsonl.gz"
    )


def test_the_recorder_loads_neither_dagster_nor_polars() -> None:
    """It starts fast, stays small, and outlives both."""
    code = "import sys, capture_pipeline.recorder.__main__; print([n for n in ('dagster','polars','pyarrow','numba') if n in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_what_is_lost_at_the_very_end_is_counted(tmp_path: Path) -> None:
    """No later message would show it: the disk takes nothing more, and what is still pending has no room."""
    folder = SessionFolder(tmp_path)
    writer = Writer(folder, segment=1, most_bytes=10, fsync_s=1)
    hooks = Hooks(lambda *_: None, lambda _: None, lambda mark: mark)
    intake = Intake([TRADES], lambda _: None, lambda *_: None)
    capture = RecordingPipeline(Recording(flush_messages=2), intake, CaptureClock(), writer, hooks)
    for number in range(3):
        capture.message(1, b'{"stream":"btcusdt@trade","data":{"E":1,"t":%d}}' % number)
    capture.finish()
    assert (capture.counts["dropped_messages"], capture.counts["tail_dropped_messages"]) == (1, 1)


@pytest.mark.parametrize("levels", [b'[["one","2.0"]]', b'[["1.0","2,0"]]', b"{}", b"null", b'[["1.0"]]'])
def test_a_diff_that_is_none_is_recorded_and_told(tmp_path: Path, levels: bytes) -> None:
    """It has ids and no levels; it is a line of the recording all the same, it is told once, and the book waits for a snapshot."""
    told: list[str] = []
    follower = Follower(["BTCUSDT"], lambda symbol, _: told.append(symbol))
    capture = capturing(tmp_path, follower)
    form = b'{"stream":"btcusdt@depth@100ms","data":{"E":1,"s":"BTCUSDT","U":%d,"u":%d,"b":%b,"a":[]}}'
    capture.message(1, form % (1, 1, b'[["1.0","2.0"]]'))
    assert follower.snapshot("BTCUSDT", b'{"lastUpdateId":0,"bids":[],"asks":[]}')
    assert follower.states() == {"BTCUSDT": "synced"}
    capture.message(1, form % (2, 2, levels))
    follower.begin_audits()
    capture.finish()
    assert (told, follower.states(), follower.wanted()) == (["BTCUSDT"], {"BTCUSDT": "invalid"}, ["BTCUSDT"])
    assert capture.messages == 2


def test_a_diff_that_is_none_is_told_before_long(tmp_path: Path) -> None:
    """Without an audit too: diffs are looked at some hundred together."""
    told: list[str] = []
    follower = Follower(["BTCUSDT"], lambda symbol, _: told.append(symbol))
    capture = capturing(tmp_path, follower)
    form = b'{"stream":"btcusdt@depth@100ms","data":{"E":1,"s":"BTCUSDT","U":%d,"u":%d,"b":%b,"a":[]}}'
    capture.message(1, form % (1, 1, b"{}"))
    capture.message(1, form % (2, 2, b"[]"))
    assert follower.snapshot("BTCUSDT", b'{"lastUpdateId":0,"bids":[],"asks":[]}')
    for number in range(3, MAX_PENDING + 1):
        capture.message(1, form % (number, number, b"[]"))
    assert (told, follower.states()) == (["BTCUSDT"], {"BTCUSDT": "invalid"})


def capturing(folder: Path, follower: Follower) -> RecordingPipeline:
    hooks = Hooks(follower.diff, lambda _: None, lambda mark: mark)
    writer = Writer(SessionFolder(folder), segment=1, most_bytes=1 << 20, fsync_s=1)
    return RecordingPipeline(
        Recording(), Intake([DEPTH], lambda _: None, lambda *_: None), CaptureClock(), writer, hooks
    )
