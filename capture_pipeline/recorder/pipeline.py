"""The path of a message through the recorder: intake, merge, stamp, batch, ledger, writer.

The module is synchronous and opens no socket.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from capture_pipeline.binance.streams.messages import WireDiff
from capture_pipeline.binance.streams.names import event_us
from capture_pipeline.recorder.events import EventBus, GapFound, StrayMessageFound
from capture_pipeline.recorder.ordering.clock import CaptureClock
from capture_pipeline.recorder.ordering.duplicate_filter import DuplicateFilter
from capture_pipeline.recorder.ordering.gap_tracker import Ledger, Outage
from capture_pipeline.recorder.ordering.ingress import Intake
from capture_pipeline.recorder.ordering.merger import Merger, Message
from capture_pipeline.recorder.storage.checkpoint import Findings, checkpoint_tracks
from capture_pipeline.recorder.storage.recovery import RecoveredSession
from capture_pipeline.recorder.storage.tail_losses import UnwrittenMessages
from capture_pipeline.recorder.storage.writer import Batch, Writer
from capture_pipeline.sessions.account import AccountState
from capture_pipeline.sessions.continuity import CaptureRange
from capture_pipeline.sessions.counts import SessionCounts
from capture_pipeline.sessions.gzip_members import FULL_BYTES
from capture_pipeline.sessions.line_format import format_line, splice_line
from capture_pipeline.sessions.models import Cause, Checkpoint, Gap
from capture_pipeline.settings.sessions import Recording

_MARK_EVERY_S = 5.0


@dataclass(frozen=True)
class Stages:
    """Parts on the path of a message.

    Attributes:
        intake: Parser of the messages.
        counts: Counts of the session, which `intake` also updates.
        clock: Source of the capture times.
        writer: Receives the batches.
        on_diff: Receives the stream and the levels of each recorded diff.
    """

    intake: Intake
    counts: SessionCounts
    clock: CaptureClock
    writer: Writer
    on_diff: Callable[[str, WireDiff], None]


class RecordingPipeline:
    """Merges the messages of all connections and passes batches to the writer.

    Attributes:
        clock: Source of the capture times.
        merge: Merger of the connections.
        ledger: Counts of the written messages, and their gaps.
        counts: Counts over all processes of the session.
        messages: Recorded lines, snapshots included, over all processes.
        began_ns: Capture time of the first line; 0 before the first one.
        newest: Last emitted message; None before the first one.
    """

    def __init__(
        self,
        settings: Recording,
        resumed: RecoveredSession,
        stages: Stages,
        events: EventBus,
        findings: Findings,
    ) -> None:
        """Continue after the lines of an earlier process; the time in between is an outage of the process.

        Args:
            settings: Sizes and times of the batches.
            resumed: State of the session; empty for a new one.
            stages: Parts on the path of a message.
            events: Receives gaps and stray messages.
            findings: Results for the checkpoints.
        """
        self.clock, self.counts = stages.clock, stages.counts
        self.merge = Merger(
            counts=self.counts.merge,
            on_stray=lambda message: events.publish(StrayMessageFound.of(message)),
        )
        self.ledger = Ledger()
        self.messages, self.began_ns = resumed.messages, resumed.first_ns
        self.newest: Message | None = None
        self._intake, self._writer, self._on_diff = stages.intake, stages.writer, stages.on_diff
        self._settings, self._events, self._findings = settings, events, findings
        self._duplicates = DuplicateFilter()
        self._pending: list[Message] = []
        self._lines: list[bytes] = []
        self._first_ns = self._last_ns = self._pending_bytes = 0
        self._pending_since = 0.0
        self._marked_s = time.monotonic()
        self._disk: Outage | None = None
        self._lost = UnwrittenMessages()
        self._resume(resumed)

    def _resume(self, resumed: RecoveredSession) -> None:
        for stream, track in resumed.tracks.items():
            self.ledger.resume(stream, track, resumed.last_times[stream])
            self.merge.resume(stream, track.last, resumed.last_times[stream].event_us, track.first)
        if resumed.account is None:
            # Without an account, only the messages that were recorded or listed are known to be received.
            self.counts.received = resumed.messages + self.counts.listed
        if resumed.last_ns:
            cause, detail = Cause.PROCESS, "no recorder ran"
            if resumed.account is not None and resumed.account.state is AccountState.UNWRITTEN:
                cause, detail = (
                    Cause.DISK,
                    f"the disk refused the last messages of the previous recorder: {resumed.account.trouble}",
                )
            self.ledger.begin(Outage(cause, detail, resumed.last_ns, self.clock.now_ns()))

    def receive(self, connection: int, raw: bytes) -> None:
        """Process one message of one connection."""
        self.counts.received += 1
        original = self._duplicates.pop(raw)
        if original is not None:
            self.merge.count_repeat(original, connection)
            return
        now_ns = self.clock.now_ns()
        placed = self._intake.place(connection, raw, now_ns)
        if placed is not None:
            self._emit(self.merge.push(placed), now_ns)

    def record_unframed(self, stream: str, data: bytes) -> int:
        """Record data that did not come from a connection, for instance a snapshot.

        Returns:
            The capture time of the data.

        Raises:
            MalformedDataError: The data contain a line break.
        """
        stamp = self.clock.stamp(self.clock.now_ns())
        line = format_line(stamp, stream, data)
        self.counts.received += 1
        self._append(stamp, line)
        return stamp

    def flush_due(self) -> None:
        """Emit messages that waited long enough, and write lines that are older than the flush time."""
        now_ns = self.clock.now_ns()
        self._emit(self.merge.flush_expired(now_ns), now_ns)
        if self._lines and time.monotonic() - self._pending_since >= self._settings.flush_s:
            self.flush()

    def finish(self) -> None:
        """Emit all held messages and flush.

        Messages for which the writer has no room are listed in the ledger with their ids.
        """
        now_ns = self.clock.now_ns()
        self._emit(self.merge.finish(now_ns), now_ns)
        self._marked_s = float("-inf")
        dropped = self.counts.dropped_messages
        self.flush()
        # No later message would show this loss.
        self.counts.tail_dropped_messages += self.counts.dropped_messages - dropped
        gaps = self._lost.gaps(self.ledger.tracks, self.ledger.last_times)
        if gaps:
            self._writer.put(Batch(b"", 0, gaps))

    def flush(self) -> None:
        """Pass a batch to the writer.

        If the writer has no room, the messages are lost, and the next gap lists their ids.
        """
        pending, self._pending = self._pending, []
        lines, self._lines, self._pending_bytes = self._lines, [], 0
        if not lines:
            return
        text = b"".join(lines)
        if not self._writer.has_room(len(text)):
            self._drop_batch(pending, len(lines))
            return
        if self._disk is not None:
            self._disk.end_ns = self._first_ns
            self._disk = None
        gaps = self._lost.recover(pending, self.ledger.tracks)
        gaps += self.ledger.count_messages(pending)
        self.messages += len(lines)
        self.began_ns = self.began_ns or self._first_ns
        times = CaptureRange(self._first_ns, self._last_ns)
        self._writer.put(Batch(text, len(lines), gaps, self._due_checkpoint(self._last_ns), times))
        for gap in gaps:
            self._events.publish(GapFound(gap))

    def write_gap_update(self, gap: Gap) -> None:
        """Write a later version of a gap, for instance after a refill; only the writer changes the ledger."""
        self._writer.put(Batch(b"", 0, [gap]))

    def create_checkpoint(self, last_ns: int) -> Checkpoint:
        """Create a checkpoint of the state after all batches that were passed to the writer."""
        tracks = checkpoint_tracks(self.ledger.tracks, self.ledger.last_times)
        mark = Checkpoint(
            first_ns=self.began_ns,
            last_ns=last_ns,
            lines=self.messages,
            tracks=tracks,
            counts=self.counts.by_name(),
            process=self._findings.process,
        )
        # Not validated: the lists grow with the session, and a checkpoint is written every few seconds.
        findings = {"audits": self._findings.audits, "clock": self._findings.clock_samples}
        return mark.model_copy(update=findings)

    def create_final_checkpoint(self) -> Checkpoint:
        """Create a checkpoint that also covers messages that could not be passed to the writer."""
        return self.create_checkpoint(self._last_ns).model_copy(
            update={
                "tracks": self._lost.add_to_tracks(
                    checkpoint_tracks(self.ledger.tracks, self.ledger.last_times)
                ),
                "audits": [],
                "clock": [],
            }
        )

    @property
    def lag_ms(self) -> float | None:
        """Capture time minus event time of the newest message; negative if the local clock is behind."""
        newest = self.newest
        return newest.capture_ns / 1e6 - event_us(newest.event_time) / 1e3 if newest is not None else None

    def _emit(self, messages: Iterable[Message], now_ns: int) -> None:
        for message in messages:
            message.capture_ns = stamp = self.clock.stamp(now_ns)
            self._duplicates.add(message)
            self.newest = message
            self._pending.append(message)
            self._append(stamp, splice_line(stamp, message.raw))
            if message.diff is not None:
                self._on_diff(message.stream, message.diff)

    def _append(self, stamp: int, line: bytes) -> None:
        if not self._lines:
            self._pending_since, self._first_ns = time.monotonic(), stamp
        self._lines.append(line)
        self._pending_bytes += len(line)
        self._last_ns = stamp
        if len(self._lines) >= self._settings.flush_messages or self._pending_bytes >= FULL_BYTES:
            self.flush()

    def _drop_batch(self, pending: list[Message], count: int) -> None:
        self.counts.dropped_messages += count
        self._lost.add(pending)
        if self._disk is None:
            detail = self._writer.trouble or "the disk is slower than the stream"
            self._disk = self.ledger.begin(Outage(Cause.DISK, detail, self.clock.now_ns()))

    def _due_checkpoint(self, last_ns: int) -> Checkpoint | None:
        now = time.monotonic()
        if now - self._marked_s < _MARK_EVERY_S:
            return None
        self._marked_s = now
        return self.create_checkpoint(last_ns)
