"""A small session without a network that tests end at any system call: `crash_program.py FOLDER FIRST LAST`.

`record` decides, locks and finishes as usual. Instead of the network, messages with the ids
FIRST..LAST of a trade stream and a depth stream are written to disk. An earlier recording is recovered first,
as every recorder does.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from unittest.mock import patch

from capture_pipeline.errors import StorageError
from capture_pipeline.lake.files import publish_model
from capture_pipeline.recorder.app import record
from capture_pipeline.recorder.events import Outcome, RecordingRepaired
from capture_pipeline.recorder.ordering.clock import CaptureClock
from capture_pipeline.recorder.storage.event_log import EventLog
from capture_pipeline.recorder.storage.recovery import recover_session
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.recorder.telemetry.accounting import Accounting, continue_account
from capture_pipeline.sessions.account import AccountFile
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import SessionPlan
from capture_pipeline.settings.models import Settings
from capture_pipeline.settings.sessions import Recording
from capture_pipeline_tests.support.sessions.desk import create_pipeline

TRADES, DEPTH = "btcusdt@trade", "btcusdt@depth@100ms"
MISSING = {17}
"""An id that the exchange never sent, so that the session has a gap of its own."""
REFUSED = 3
_NEVER_OVER_US = 4_000_000_000_000_000
"""Start of the plan, so that the session does not end by itself."""


def main(path: Path, first: int, last: int) -> None:
    """Record and finish."""
    folder = SessionFolder(path)
    path.mkdir(exist_ok=True)
    if not folder.plan.exists():
        publish_model(folder.plan, _plan(folder.session))

    async def recorded(*_: object) -> Outcome:
        feed(folder, first, last)
        return Outcome.COMPLETE

    with patch("capture_pipeline.recorder.app._run_recorder", recorded):
        record(Settings(), folder)


def feed(folder: SessionFolder, first: int, last: int) -> None:
    """Recover the recording, and write the messages in batches of four with an fsync each."""
    resumed = recover_session(folder)
    events = EventLog(folder.events, lambda: 0)
    for line in resumed.repairs:
        events.write(RecordingRepaired(line))
    writer = Writer(folder, segment=resumed.segment, max_waiting_bytes=1 << 20, fsync_s=0.0)
    settings = Recording(flush_messages=4, connections=1)
    capture = create_pipeline(writer, [TRADES, DEPTH], settings, resumed, _clock(resumed.last_ns))
    accounting = Accounting(AccountFile(folder.account, 2), continue_account(resumed), capture, writer)
    accounting.begin()
    capture.merge.add_connection(1)
    for number in range(first, last + 1):
        if number not in MISSING:
            capture.receive(
                1, b'{"stream":"%b","data":{"e":"trade","E":1,"t":%d}}' % (TRADES.encode(), number)
            )
            low = number * 10
            capture.receive(
                1,
                b'{"stream":"%b","data":{"E":1,"U":%d,"u":%d,"b":[],"a":[]}}'
                % (DEPTH.encode(), low, low + 9),
            )
    capture.finish()
    # Run here and not as a thread: strace counts the calls of each thread for itself.
    writer.end()
    writer.run()
    if writer.failure is not None:
        raise writer.failure
    accounting.close(_NEVER_OVER_US * 1000, is_written=not writer.waiting_messages and not writer.trouble)


def _clock(floor_ns: int) -> CaptureClock:
    """Return a clock that advances by 10 ms at each call, so that every run has the same system calls."""
    ticks = itertools.count(1)
    return CaptureClock(floor_ns, wall=lambda: 0, monotonic=lambda: next(ticks) * 10_000_000)


def _plan(session: str) -> SessionPlan:
    names = {
        "session": session,
        "venue": "sandbox",
        "market": "spot",
        "symbols": ["BTCUSDT"],
        "streams": [TRADES, DEPTH],
    }
    return SessionPlan.model_validate(
        {**names, "regime": "custom", "start_us": _NEVER_OVER_US, "duration_s": 1, "connections": 1}
    )


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except StorageError as refused:
        print(refused)  # noqa: T201 - a program
        sys.exit(REFUSED)
