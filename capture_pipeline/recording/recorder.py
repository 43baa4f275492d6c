"""The recorder as a process: one event loop around `Capture`, ended by its deadline or by a signal. Imports neither Dagster nor polars.

SIGTERM and SIGINT interrupt: what came is on the disk, and the session can be resumed until its time is over. SIGUSR1 ends it for good.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass

from capture_pipeline.binance.rest import RestClient
from capture_pipeline.binance.streams import combined_url
from capture_pipeline.config_sessions import Recording
from capture_pipeline.errors import StorageError
from capture_pipeline.lake.files import publish_model
from capture_pipeline.recording.aside import aside
from capture_pipeline.recording.capture import Capture, Hooks
from capture_pipeline.recording.clock import CaptureClock
from capture_pipeline.recording.events import EventLog
from capture_pipeline.recording.follow import Follower
from capture_pipeline.recording.incidents import Incidents
from capture_pipeline.recording.intake import Intake
from capture_pipeline.recording.layout import SessionFolder
from capture_pipeline.recording.models import Checkpoint, Gap, SessionPlan
from capture_pipeline.recording.resume import Resumed, read_gaps
from capture_pipeline.recording.side import Side
from capture_pipeline.recording.status import (
    ConnectionStatus,
    Status,
    free_bytes,
    prometheus_text,
    publish_status,
    rss_bytes,
    serve_metrics,
)
from capture_pipeline.recording.supervisor import Supervisor
from capture_pipeline.recording.transport import connection_of
from capture_pipeline.recording.writer import Writer

_BEAT_S = 0.05
_PATIENCE_S = 20.0
COMPLETE, STOPPED, INTERRUPTED = "complete", "stopped", "interrupted"


@dataclass(frozen=True)
class Setup:
    """What a recorder needs.

    Attributes:
        folder: Where it writes.
        plan: What it records.
        settings: How.
        stream_url: WebSocket host.
        rest: For snapshots, refills and the exchange's clock.
    """

    folder: SessionFolder
    plan: SessionPlan
    settings: Recording
    stream_url: str
    rest: RestClient


class Recorder:
    """Records one session until its deadline or a signal.

    Attributes:
        capture: The way of its messages.
        follower: Its books.
    """

    def __init__(self, setup: Setup, resumed: Resumed) -> None:
        """Put the parts together; the journal is opened.

        Raises:
            StorageError: The disk refuses.
        """
        self._setup, settings = setup, setup.settings
        self._clock = CaptureClock(resumed.last_ns)
        self._events = EventLog(setup.folder.events)
        most_bytes = settings.queue_mb << 20
        self._writer = Writer(setup.folder, segment=resumed.segment, most_bytes=most_bytes, fsync_s=settings.fsync_s)
        self.follower = Follower(setup.plan.symbols, self._malformed)
        intake = Intake(setup.plan.streams, self._shutdown, self._rejected)
        hooks = Hooks(self.follower.diff, self._gap, self._completed)
        self.capture = Capture(settings, intake, self._clock, self._writer, hooks)
        self.capture.resume(resumed)
        self._end = asyncio.Event()
        self._incidents = Incidents(self.capture, self._events, lambda: len(self._supervisor.live), self._end.is_set)
        self._side = Side(setup.rest, settings, self.capture, self.follower, self._events)
        self._side.take_up(read_gaps(setup.folder.gaps))
        self._side.audits += resumed.checkpoint.audits
        self._side.clock_samples += resumed.checkpoint.clock
        self._supervisor = Supervisor(
            combined_url(setup.stream_url, setup.plan.streams),
            slots=setup.plan.connections,
            silence_s=settings.silence_s,
            renew_s=settings.renew_hours * 3600,
            steady_s=settings.steady_s,
            kind=connection_of(settings.transport),
            on_message=self.capture.message,
            on_open=self._incidents.opened,
            on_end=self._incidents.ended,
        )
        self._outcome = COMPLETE
        self._state = "starting"
        self._before = 0
        for line in resumed.mended:
            self._events.write(self._clock.now_ns(), "mended", what=line)

    async def run(self) -> str:
        """Record.

        Returns:
            `complete`, `stopped` or `interrupted`.

        Raises:
            StorageError: At the end the disk still refuses what was recorded last.
        """
        plan = self._setup.plan
        self._listen()
        metrics_port = self._setup.settings.metrics_port
        server = await self._metrics(metrics_port) if metrics_port else None
        self._incidents.begin()
        self._events.write(self._clock.now_ns(), "recorder_started", pid=os.getpid(), connections=plan.connections)
        folder = self._setup.folder
        tasks = [
            asyncio.create_task(self._supervisor.run()),
            asyncio.create_task(self._side.run(folder.refilled)),
            asyncio.create_task(self._beat()),
            asyncio.create_task(self._each_second()),
        ]
        self._writer.start()
        ended = asyncio.create_task(self._until_the_end())
        done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        self._state = "finishing"
        await self._wind_down([*tasks, ended], server)
        for task in done:
            task.result()
        return self._outcome

    async def _metrics(self, port: int) -> asyncio.Server | None:
        """Serve metrics; a port that is taken is told, and no reason not to record."""
        try:
            return await serve_metrics(port, lambda: prometheus_text(self._status()))
        except OSError as error:
            self._events.write(self._clock.now_ns(), "metrics_failed", port=port, error=error.strerror)
            return None

    async def _wind_down(self, tasks: list[asyncio.Task[None]], server: asyncio.Server | None) -> None:
        await self._supervisor.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if server is not None:
            server.close()
        # Nothing comes after what is pending that would show its loss: it waits for room.
        await aside(lambda: self._writer.drain(_PATIENCE_S))
        self.capture.finish()
        is_written = await aside(lambda: self._writer.finish(_PATIENCE_S))
        self._events.write(self._clock.now_ns(), "recorder_ended", outcome=self._outcome, written=is_written)
        self._incidents.suspects(self._writer.suspects)
        if self._writer.failure is not None:
            raise self._writer.failure
        if not is_written:
            trouble = self._writer.trouble or "the disk is too slow"
            remedy = "free the disk and run the same command again to go on"
            raise StorageError(f"could not be written to the end: {trouble}", where=str(self._setup.folder.path), remedy=remedy)
        self._checkpoint()
        self._publish("interrupted" if self._outcome == INTERRUPTED else "finishing")

    async def _until_the_end(self) -> None:
        await self._end.wait()

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number, outcome in ((signal.SIGTERM, INTERRUPTED), (signal.SIGINT, INTERRUPTED), (signal.SIGUSR1, STOPPED)):
            loop.add_signal_handler(number, self.end, outcome)

    def end(self, outcome: str) -> None:
        """End soon."""
        if not self._end.is_set():
            self._outcome = outcome
            self._end.set()

    async def _beat(self) -> None:
        while True:
            self.capture.tick()
            if self._writer.failure is not None:
                raise self._writer.failure
            await asyncio.sleep(_BEAT_S)

    async def _each_second(self) -> None:
        plan = self._setup.plan
        deadline_ns = plan.start_us * 1000 + round(plan.duration_s * 1e9)
        following = time.monotonic()
        while True:
            if self._setup.folder.ending.exists():
                self.end(STOPPED)
            self._incidents.suspects(self._writer.suspects)
            self._incidents.look_at_clock(round(self._setup.settings.clock_step_ms * 1e6))
            state = "disk" if self._writer.trouble else "recording" if self._supervisor.live else "connecting"
            self._publish(state)
            left = (deadline_ns - self._clock.now_ns()) / 1e9
            if left <= 0:
                self.end(COMPLETE)
            following += 1
            await asyncio.sleep(max(0.01, min(following - time.monotonic(), left)))

    def _shutdown(self, number: int) -> None:
        self._incidents.shutdown(number)
        self._supervisor.shutdown_announced(number)

    def _rejected(self, reason: str, raw_base64: str) -> None:
        self._incidents.rejected(reason, raw_base64)

    def _malformed(self, symbol: str, what: str) -> None:
        self.capture.counts["malformed_diffs"] = self.capture.counts.get("malformed_diffs", 0) + 1
        self._events.write(self._clock.now_ns(), "malformed_diff", symbol=symbol, error=what)

    def _gap(self, gap: Gap) -> None:
        self._side.gap(gap)

    def _completed(self, mark: Checkpoint) -> Checkpoint:
        return mark.model_copy(update={"audits": self._side.audits, "clock": self._side.clock_samples})

    def _checkpoint(self) -> None:
        """Publish the final counts; the place is the end of what was written."""
        mark = self._completed(self.capture.mark(self._clock.last_ns))
        mark = mark.model_copy(update={"segment": self._writer.segment, "offset": self._writer.offset})
        publish_model(self._setup.folder.checkpoint, mark)

    def _publish(self, state: str) -> None:
        self._state = state
        publish_status(self._setup.folder.status, self._status())
        self._before = self.capture.messages

    def _status(self) -> Status:
        plan, capture, now = self._setup.plan, self.capture, time.monotonic()
        tracks = capture.ledger.tracks
        connections = [
            ConnectionStatus(number=one.number, slot=one.slot, age_s=now - one.opened_s, messages=one.messages, silent_s=now - one.last_s)
            for one in self._supervisor.live.values()
            if one.opened_s is not None
        ]
        return Status(
            session=plan.session,
            state=self._state,
            pid=os.getpid(),
            updated_ns=time.time_ns(),
            started_us=plan.start_us,
            ends_us=plan.start_us + round(plan.duration_s * 1e6),
            messages=capture.messages,
            messages_per_s=float(capture.messages - self._before),
            last_ids={stream: track.last for stream, track in tracks.items()},
            lag_ms=capture.lag_ms,
            file_bytes=self._writer.bytes_written,
            waiting_bytes=self._writer.waiting_bytes,
            disk_free_bytes=free_bytes(self._setup.folder.path),
            rss_bytes=rss_bytes(),
            held=capture.merge.held,
            dropped_messages=capture.counts["dropped_messages"],
            gaps=sum(track.gaps for track in tracks.values()),
            ids_lost=sum(track.lost for track in tracks.values()),
            books=self.follower.states(),
            connections=connections,
            reconnects=self._incidents.reconnects,
            trouble=self._writer.trouble,
        )
