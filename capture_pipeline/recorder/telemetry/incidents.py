"""Incidents of a recording: connections that open and end, malformed diffs, clock steps, failed fsyncs.

Each incident is a count in the statistics. If ids may be lost, it is also an outage that the ledger names as
the cause of gaps.
"""

from __future__ import annotations

from capture_pipeline.recorder.events import (
    ClockStepped,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    DiffMalformed,
    EndRequested,
    EventBus,
    FsyncFailed,
    RecordingAltered,
)
from capture_pipeline.recorder.ordering.gap_tracker import Outage
from capture_pipeline.recorder.pipeline import RecordingPipeline
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.recorder.telemetry.accounting import Accounting


class Incidents:
    """Counts events, and turns ends of connections into outages."""

    def __init__(self, pipeline: RecordingPipeline, events: EventBus) -> None:
        """Start without an outage.

        Args:
            pipeline: Pipeline whose merge, ledger and counts are updated.
            events: Source of the incidents.
        """
        self._pipeline, self._counts = pipeline, pipeline.counts
        self._down: Outage | None = None
        self._is_ending = False
        events.subscribe(ConnectionOpened, self._add_connection)
        events.subscribe(ConnectionClosed, self._remove_connection)
        events.subscribe(ConnectionRefused, self._remove_refused)
        events.subscribe(DiffMalformed, self._count_diff)
        events.subscribe(ClockStepped, self._count_step)
        events.subscribe(FsyncFailed, self._count_segment)
        events.subscribe(EndRequested, self._note_end)

    def _add_connection(self, event: ConnectionOpened) -> None:
        self._pipeline.merge.add_connection(event.connection)
        if self._down is not None:
            self._down.end_ns, self._down = self._pipeline.clock.now_ns(), None

    def _remove_connection(self, event: ConnectionClosed) -> None:
        merge, now_ns = self._pipeline.merge, self._pipeline.clock.now_ns()
        merge.remove_connection(event.connection)
        if self._is_ending:
            return
        self._counts.connection_ends[event.cause] += 1
        is_total = not merge.has_connections
        outage = Outage(event.cause, event.detail, now_ns, None if is_total else now_ns, is_total)
        self._pipeline.ledger.begin(outage)
        self._down = outage if is_total else self._down

    def _remove_refused(self, event: ConnectionRefused) -> None:
        self._pipeline.merge.remove_connection(event.connection)

    def _count_diff(self, _: DiffMalformed) -> None:
        self._counts.malformed_diffs += 1

    def _count_step(self, _: ClockStepped) -> None:
        self._counts.clock_steps += 1

    def _count_segment(self, _: FsyncFailed) -> None:
        self._counts.suspect_segments += 1

    def _note_end(self, _: EndRequested) -> None:
        self._is_ending = True


def publish_file_faults(writer: Writer, accounting: Accounting, events: EventBus) -> None:
    """Publish parts of the recording whose fsync failed, or that another program removed or altered."""
    for segment in writer.take_suspects():
        events.publish(FsyncFailed(segment))
    for alteration in accounting.take_alterations():
        events.publish(
            RecordingAltered(
                f"{alteration}; recording continues in a new part, and lost ids will be listed in gaps.jsonl"
            )
        )
