"""The way of a message through the recorder: intake → merge → stamp → pending → ledger → writer. Synchronous; opens no socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from capture_pipeline.binance.streams import StreamKind, event_us
from capture_pipeline.config_sessions import Recording
from capture_pipeline.recording.clock import CaptureClock
from capture_pipeline.recording.echoes import Echoes
from capture_pipeline.recording.intake import Intake
from capture_pipeline.recording.ledger import Ledger, Moment, Outage
from capture_pipeline.recording.lines import composed, spliced
from capture_pipeline.recording.merge import Merge, Message
from capture_pipeline.recording.models import Cause, Checkpoint, Gap
from capture_pipeline.recording.resume import Resumed, tracks_of
from capture_pipeline.recording.writer import Batch, Writer

_MARK_EVERY_S = 5.0
_NO_IDS = -1


@dataclass(slots=True)
class _Pending:
    """A line on its way to the disk; `first` is -1 for lines without ids."""

    stream: str
    first: int
    last: int
    capture_ns: int
    line: bytes
    event_time: int = 0
    is_reset: bool = False


@dataclass
class Hooks:
    """Who is told of what passes by.

    Attributes:
        on_depth: Stream and data of each diff that is recorded; whether it is one.
        on_gap: Each gap, when its later edge is handed to the disk.
        complete: Adds to a checkpoint what others know.
    """

    on_depth: Callable[[str, memoryview], bool]
    on_gap: Callable[[Gap], None]
    complete: Callable[[Checkpoint], Checkpoint]


class Capture:
    """Takes messages of all connections and hands batches to the writer.

    Attributes:
        clock: Gives the stamps.
        merge: Puts connections together.
        ledger: Counts what is written.
        counts: What happened, over all processes of the session.
        messages: Lines recorded, over all processes.
    """

    def __init__(self, settings: Recording, intake: Intake, clock: CaptureClock, writer: Writer, hooks: Hooks) -> None:
        """Start empty; `resume` takes up an earlier process."""
        self.clock, self.merge, self.ledger = clock, Merge(), Ledger()
        self.counts: dict[str, int] = {"dropped_messages": 0}
        self.messages = 0
        self.newest: _Pending | None = None
        self._settings, self._intake, self._writer, self._hooks = settings, intake, writer, hooks
        self._echoes = Echoes()
        self._pending: list[_Pending] = []
        self._pending_since = 0.0
        self._marked_s = time.monotonic()
        self._disk: Outage | None = None
        self._merged_before: dict[str, int] = {}

    def resume(self, resumed: Resumed) -> None:
        """Go on behind what an earlier process recorded; the time in between is an outage of this process."""
        for stream, track in resumed.tracks.items():
            self.ledger.resume(stream, track, resumed.last_of[stream])
            self.merge.resume(stream, track.last, resumed.last_of[stream].event_us)
        self.messages = sum(track.messages for track in resumed.tracks.values())
        self.counts |= resumed.checkpoint.counts
        self._merged_before = dict(resumed.checkpoint.counts)
        if resumed.last_ns:
            self.ledger.begin(Outage(Cause.PROCESS, "no recorder ran", resumed.last_ns, self.clock.now_ns()))

    def message(self, connection: int, raw: bytes) -> None:
        """Take one message of one connection."""
        known = self._echoes.known(raw)
        if known is not None:
            self.merge.repeated(known, connection)
            return
        placed = self._intake.place(connection, raw, self.clock.now_ns())
        if placed is not None:
            self._admit(self.merge.offer(placed))

    def bare(self, stream: str, data: bytes) -> int:
        """Record data that no connection sent, for instance a snapshot.

        Returns:
            Its capture time.

        Raises:
            MalformedData: The data hold a line break.
        """
        stamp = self.clock.stamp()
        self._append(_Pending(stream, _NO_IDS, _NO_IDS, stamp, composed(stamp, stream, data)))
        return stamp

    def tick(self) -> None:
        """Let through what waited long enough, and write what has been pending for the flush time."""
        self._admit(self.merge.tick(self.clock.now_ns()))
        if self._pending and time.monotonic() - self._pending_since >= self._settings.flush_s:
            self.flush()

    def finish(self) -> None:
        """Everything that is still on its way goes to the writer."""
        self._admit(self.merge.finish(self.clock.now_ns()))
        self._marked_s = float("-inf")
        dropped = self.counts["dropped_messages"]
        self.flush()
        if self.counts["dropped_messages"] > dropped:
            # No later message will show this loss.
            self.counts["tail_dropped_messages"] = self.counts["dropped_messages"] - dropped

    def flush(self) -> None:
        """Hand over a batch; where the writer has no room its messages are lost, and the next gap says so."""
        pending, self._pending = self._pending, []
        if not pending:
            return
        lines = b"".join([one.line for one in pending])
        if not self._writer.has_room(len(lines)):
            self._lose(len(pending))
            return
        if self._disk is not None:
            self._disk.end_ns = pending[0].capture_ns
            self._disk = None
        gaps = self._see(pending)
        self.messages += len(pending)
        self._writer.put(Batch(lines, len(pending), gaps, self._mark(pending[-1].capture_ns)))
        for gap in gaps:
            self._hooks.on_gap(gap)

    def supersede(self, gap: Gap) -> None:
        """Write a later line of a gap, that it was filled for instance; the writer alone writes to the ledger."""
        self._writer.put(Batch(b"", 0, [gap]))

    def mark(self, last_ns: int) -> Checkpoint:
        """The state after everything handed over so far."""
        tracks = tracks_of(self.ledger.tracks, self.ledger.last_of)
        merged = {name: count + self._merged_before.get(name, 0) for name, count in asdict(self.merge.counts).items()}
        return self._hooks.complete(Checkpoint(last_ns=last_ns, tracks=tracks, counts={**self.counts, **merged}))

    @property
    def lag_ms(self) -> float | None:
        """Capture time less event time of the newest message; negative where our clock is behind the exchange's."""
        newest = self.newest
        return newest.capture_ns / 1e6 - event_us(newest.event_time) / 1e3 if newest is not None else None

    def _admit(self, messages: Iterable[Message]) -> None:
        for message in messages:
            stamp = self.clock.stamp()
            self._echoes.remember(message)
            pending = _Pending(
                message.stream, message.first, message.last, stamp, spliced(stamp, message.raw), message.event_time, message.is_reset
            )
            self.newest = pending
            self._append(pending)
            if self._intake.kinds[message.stream] is StreamKind.DEPTH:
                raw = message.raw
                if not self._hooks.on_depth(message.stream, memoryview(raw)[raw.index(b'"data":') + 7 : -1]):
                    self.counts["malformed_diffs"] = self.counts.get("malformed_diffs", 0) + 1

    def _append(self, pending: _Pending) -> None:
        if not self._pending:
            self._pending_since = time.monotonic()
        self._pending.append(pending)
        if len(self._pending) >= self._settings.flush_messages:
            self.flush()

    def _see(self, pending: list[_Pending]) -> list[Gap]:
        found = []
        for one in pending:
            if one.first == _NO_IDS:
                continue
            if one.is_reset:
                self.ledger.restart(one.stream)
            found.append(self.ledger.see(one.stream, one.first, one.last, Moment(one.capture_ns, event_us(one.event_time))))
        return [gap for gap in found if gap is not None]

    def _lose(self, count: int) -> None:
        self.counts["dropped_messages"] += count
        if self._disk is None:
            detail = self._writer.trouble or "the disk is slower than the stream"
            self._disk = self.ledger.begin(Outage(Cause.DISK, detail, self.clock.now_ns()))

    def _mark(self, last_ns: int) -> Checkpoint | None:
        now = time.monotonic()
        if now - self._marked_s < _MARK_EVERY_S:
            return None
        self._marked_s = now
        return self.mark(last_ns)
