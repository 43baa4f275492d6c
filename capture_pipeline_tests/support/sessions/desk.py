"""Pipeline, writer and account of a session without a network, and readers of its files."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest

from capture_pipeline.binance.streams.messages import WireDiff
from capture_pipeline.recorder.events import EventBus
from capture_pipeline.recorder.ordering.clock import CaptureClock
from capture_pipeline.recorder.ordering.ingress import Intake
from capture_pipeline.recorder.pipeline import RecordingPipeline, Stages
from capture_pipeline.recorder.storage.checkpoint import Findings
from capture_pipeline.recorder.storage.recovery import RecoveredSession, recover_session
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.recorder.telemetry.accounting import Accounting, continue_account
from capture_pipeline.recorder.telemetry.metrics import StatusCollector
from capture_pipeline.sessions.account import AccountFile
from capture_pipeline.sessions.counts import SessionCounts
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Cause
from capture_pipeline.sessions.status import Status
from capture_pipeline.settings.sessions import Recording

TRADES, OTHERS = "btcusdt@trade", "ethusdt@trade"


def create_pipeline(
    writer: Writer,
    streams: list[str],
    settings: Recording,
    resumed: RecoveredSession | None = None,
    clock: CaptureClock | None = None,
    on_diff: Callable[[str, WireDiff], None] = lambda *_: None,
) -> RecordingPipeline:
    """Create a pipeline whose events nobody consumes."""
    resumed, events = resumed or RecoveredSession(), EventBus()
    counts = SessionCounts.parse(resumed.checkpoint.counts)
    stages = Stages(Intake(streams, counts, events), counts, clock or CaptureClock(), writer, on_diff)
    return RecordingPipeline(settings, resumed, stages, events, Findings())


class Desk:
    """Pipeline, writer and account of a session, without a network."""

    def __init__(self, folder: SessionFolder, clock: int = 0, max_waiting_bytes: int = 1 << 20) -> None:
        """Recover the session and open the account."""
        resumed = recover_session(folder)
        self.folder = folder
        self.writer = Writer(
            folder, segment=resumed.segment, max_waiting_bytes=max_waiting_bytes, fsync_s=0.02
        )
        ticks = itertools.count(clock + 1)
        clock_ = CaptureClock(resumed.last_ns, wall=lambda: 0, monotonic=lambda: next(ticks) * 10_000_000)
        settings = Recording(flush_messages=5)
        self.pipeline = create_pipeline(self.writer, [TRADES, OTHERS], settings, resumed, clock_)
        self.pipeline.merge.add_connection(1)
        self.accounting = Accounting(
            AccountFile(folder.account, 2), continue_account(resumed), self.pipeline, self.writer
        )
        self.accounting.begin()

    def start(self) -> Desk:
        """Start the writer thread."""
        self.writer.start()
        return self

    def send(self, first: int, last: int, stream: str = TRADES) -> None:
        """Send the trades first..last, in batches of five."""
        for number in range(first, last + 1):
            self.pipeline.receive(
                1, b'{"stream":"%b","data":{"e":"trade","E":%d,"t":%d}}' % (stream.encode(), number, number)
            )
        if self.writer.is_alive():
            self.writer.drain(10)

    def wait_for_alterations(self) -> list[str]:
        """Return the alterations that the writer finds within some fsync intervals."""
        for _ in range(200):
            if self.writer.alterations:
                return self.accounting.take_alterations()
            self.writer.join(0.02)
        return []

    def end(self, until_ns: int = 1) -> None:
        """Write all lines and close the account."""
        self.pipeline.finish()
        assert self.writer.finish(10)
        self.accounting.take_alterations()
        assert self.accounting.difference == 0
        self.accounting.close(until_ns, is_written=True)


def recorded_ids(folder: SessionFolder, stream: str = TRADES) -> set[int]:
    """Return the trade ids in the finished recording."""
    inflater, content, lines = zlib.decompressobj(31), folder.recording.read_bytes(), b""
    while content:
        lines += inflater.decompress(content)
        content, inflater = inflater.unused_data, zlib.decompressobj(31)
    return {line["data"]["t"] for line in map(json.loads, lines.splitlines()) if line["stream"] == stream}


def lost_ids(folder: SessionFolder, *causes: Cause, stream: str = TRADES) -> set[int]:
    """Return the ids that the ledger lists with these causes."""
    gaps = [gap for gap in read_gaps(folder.gaps) if gap.stream == stream and gap.cause in causes]
    found = [number for gap in gaps for number in range(gap.last_good_id + 1, gap.first_good_id)]
    assert len(found) == len(set(found))
    return set(found)


def metrics_text(status: Status) -> str:
    """Return the metrics of a status as Prometheus reads them."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: status))
    return generate_latest(registry).decode()
