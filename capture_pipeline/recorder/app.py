"""The process that records a session: one event loop around `RecordingPipeline`.

SIGTERM and SIGINT interrupt the recorder. Everything received is then on the disk, and the session can be
resumed until its planned end. SIGUSR1 ends the session. A recorder that is started before a planned session
waits. It records from `LEAD_S` before the planned start, so that the books are synchronized at the start.
This module imports neither Dagster nor polars.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from capture_pipeline.binance.http.pauses import Limits
from capture_pipeline.binance.rest.client import RestClient
from capture_pipeline.binance.streams.names import combined_url
from capture_pipeline.errors import StorageError
from capture_pipeline.lake.files import publish_model
from capture_pipeline.recorder.background.book_follower import BookFollower
from capture_pipeline.recorder.background.daemon_thread import run_in_daemon_thread
from capture_pipeline.recorder.background.tasks import BackgroundTasks
from capture_pipeline.recorder.connections.connection import Connection
from capture_pipeline.recorder.connections.health import ConnectionHealth, FirstMessage, RestPauses
from capture_pipeline.recorder.connections.supervisor import Supervisor
from capture_pipeline.recorder.ordering.clock import CaptureClock
from capture_pipeline.recorder.ordering.ingress import Intake
from capture_pipeline.recorder.ordering.merger import Message
from capture_pipeline.recorder.pipeline import Hooks, RecordingPipeline
from capture_pipeline.recorder.storage.event_log import EventLog
from capture_pipeline.recorder.storage.recovery import RecoveredSession
from capture_pipeline.recorder.storage.writer import Writer
from capture_pipeline.recorder.telemetry.accounting import Accounting
from capture_pipeline.recorder.telemetry.incidents import Incidents
from capture_pipeline.recorder.telemetry.status_publisher import StatusPublisher
from capture_pipeline.sessions.gap_ledger import read_gaps
from capture_pipeline.sessions.layout import SessionFolder
from capture_pipeline.sessions.models import Checkpoint, Gap, SessionPlan
from capture_pipeline.sessions.status import prometheus_text, serve_metrics
from capture_pipeline.settings.sessions import Recording
from capture_pipeline.terminal import report

LEAD_S = 10.0
"""Seconds between the start of the recording and the planned start: time to connect and to sync books."""
_BEAT_S = 0.05
COMPLETE, STOPPED, INTERRUPTED = "complete", "stopped", "interrupted"


@dataclass(frozen=True)
class Setup:
    """Inputs of a recorder.

    Attributes:
        folder: Folder of the session.
        plan: Plan of the session.
        settings: Settings of the recording.
        stream_url: URL of the WebSocket host.
        rest: Client for snapshots, refills and samples of the exchange's clock.
        limits: Request limits of this machine's address; None if the exchange has none.
    """

    folder: SessionFolder
    plan: SessionPlan
    settings: Recording
    stream_url: str
    rest: RestClient
    limits: Limits | None = None


class Recorder:
    """Records one session until its deadline or a signal.

    Attributes:
        pipeline: Path of the messages from the connections to the writer.
        follower: Live order books of the session.
    """

    def __init__(self, setup: Setup, resumed: RecoveredSession) -> None:
        """Create the parts of the recorder and open the segment to write.

        Raises:
            StorageError: The segment cannot be opened.
        """
        self._setup, settings = setup, setup.settings
        self._clock = CaptureClock(resumed.last_ns)
        self._events = EventLog(setup.folder.events)
        max_waiting_bytes = settings.queue_mb << 20
        self._writer = Writer(
            setup.folder,
            segment=resumed.segment,
            max_waiting_bytes=max_waiting_bytes,
            fsync_s=settings.fsync_s,
        )
        self.follower = BookFollower(setup.plan.symbols, self._on_malformed)
        intake = Intake(setup.plan.streams, self._on_shutdown, self._on_reject)
        hooks = Hooks(self.follower.apply_diff, self._on_gap, self._complete_checkpoint, self._on_stray)
        self.pipeline = RecordingPipeline(settings, intake, self._clock, self._writer, hooks)
        self.pipeline.resume(resumed)
        self._accounting = Accounting(
            setup.folder, len(setup.plan.streams), resumed, self.pipeline, self._writer
        )
        self._end = asyncio.Event()
        self._incidents = Incidents(
            self.pipeline, self._events, lambda: len(self._supervisor.live), self._end.is_set
        )
        self._background = BackgroundTasks(setup.rest, settings, self.pipeline, self.follower, self._events)
        self._background.refills.add(read_gaps(setup.folder.gaps))
        self._background.audits += resumed.checkpoint.audits
        self._background.clock_samples += resumed.checkpoint.clock
        self._supervisor = Supervisor(
            combined_url(setup.stream_url, setup.plan.streams),
            slots=setup.plan.connections,
            silence_s=settings.silence_s,
            renew_s=settings.renew_hours * 3600,
            steady_s=settings.steady_s,
            limits=setup.limits,
            on_message=self.pipeline.receive,
            on_open=self._on_open,
            on_end=self._on_end,
        )
        self._health = ConnectionHealth(setup.stream_url.removesuffix("/{route}"), report)
        self._pauses = RestPauses(setup.limits, partial(self._report, "rest_paused"))
        self._first = FirstMessage(self.pipeline.merge.counts.passed, partial(self._report, "nothing_came"))
        self._publisher = StatusPublisher(
            setup.folder,
            setup.plan,
            pipeline=self.pipeline,
            writer=self._writer,
            follower=self.follower,
            incidents=self._incidents,
            troubles=self._health,
            supervisor=self._supervisor,
            accounting=self._accounting,
            refills=self._background.refills,
            pauses=self._pauses,
        )
        self._outcome = COMPLETE
        for line in resumed.repairs:
            self._events.write(self._clock.now_ns(), "mended", what=line)

    async def run(self) -> str:
        """Record until the end of the session.

        Returns:
            `complete`, `stopped` or `interrupted`.

        Raises:
            StorageError: The disk has no room at the start, or cannot store the last messages at the end.
        """
        plan = self._setup.plan
        self._accounting.begin()
        self._handle_signals()
        metrics_port = self._setup.settings.metrics_port
        server = await self._serve_metrics(metrics_port) if metrics_port else None
        self._incidents.record_clock_lag()
        self._events.write(
            self._clock.now_ns(), "recorder_started", pid=os.getpid(), connections=plan.connections
        )
        folder = self._setup.folder
        tasks = [
            asyncio.create_task(self._run_when_due(self._supervisor.run)),
            asyncio.create_task(self._run_when_due(partial(self._background.run, folder.refilled))),
            asyncio.create_task(self._flush_regularly()),
            asyncio.create_task(self._update_each_second()),
        ]
        self._writer.start()
        ended = asyncio.create_task(self._wait_for_end())
        done, _ = await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        self._publisher.state = "finishing"
        await self._shut_down([*tasks, ended], server)
        for task in done:
            task.result()
        return self._outcome

    async def _serve_metrics(self, port: int) -> asyncio.Server | None:
        """Serve metrics. A port that is in use is logged as an event, and the recording continues."""
        try:
            return await serve_metrics(port, lambda: prometheus_text(self._publisher.status()))
        except OSError as error:
            self._events.write(self._clock.now_ns(), "metrics_failed", port=port, error=error.strerror)
            return None

    async def _shut_down(self, tasks: list[asyncio.Task[None]], server: asyncio.Server | None) -> None:
        await self._supervisor.stop()
        until_ns = self._clock.now_ns()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if server is not None:
            server.close()
        # No later message would show the loss of pending messages, so the writer gets time to write them.
        patience_s = self._setup.settings.patience_s
        await run_in_daemon_thread(lambda: self._writer.drain(patience_s))
        self.pipeline.finish()
        is_written = await run_in_daemon_thread(lambda: self._writer.finish(patience_s))
        self._events.write(self._clock.now_ns(), "recorder_ended", outcome=self._outcome, written=is_written)
        self._report_file_faults()
        if self._writer.failure is not None:
            raise self._writer.failure
        if difference := self._accounting.difference:
            self._report(
                "account_differs",
                f"{difference:,} messages were received that are neither recorded nor accounted for",
            )
        if is_written:
            with contextlib.suppress(StorageError):  # the checkpoint only saves a scan; the account decides
                self._checkpoint()
        self._close_account(until_ns, is_written=is_written)
        self._publisher.publish("interrupted" if self._outcome == INTERRUPTED else "finishing")

    def _close_account(self, until_ns: int, *, is_written: bool) -> None:
        refused = ""
        try:
            self._accounting.close(until_ns, is_written=is_written)
        except StorageError as error:
            refused = str(error)
        if is_written and not refused:
            return
        lost, trouble = (
            self._writer.waiting_messages,
            self._writer.trouble or refused or "the disk is too slow",
        )
        remedy = (
            "free disk space and run the same command again: it resumes or finishes the session "
            "and lists the lost ids in gaps.jsonl"
        )
        self._publisher.publish("interrupted")
        what = f"ended with {lost:,} messages that could not be written: {trouble}"
        raise StorageError(what, where=str(self._setup.folder.path), remedy=remedy)

    def _report_file_faults(self) -> None:
        """Report parts of the recording whose fsync failed, or that somebody removed or altered."""
        self._incidents.record_suspects(self._writer.suspects)
        for alteration in self._accounting.take_alterations():
            self._report(
                "recording_altered",
                f"{alteration}; recording continues in a new part, and lost ids will be listed in gaps.jsonl",
            )

    def _report(self, kind: str, what: str) -> None:
        self._events.write(self._clock.now_ns(), kind, what=what)
        report(what)

    @property
    def _due_in_s(self) -> float:
        """Seconds until recording begins; negative after that time."""
        return (self._setup.plan.start_us * 1000 - self._clock.now_ns()) / 1e9 - LEAD_S

    async def _run_when_due(self, work: Callable[[], Awaitable[None]]) -> None:
        while (remaining_s := self._due_in_s) > 0:  # noqa: ASYNC110 - the wall clock may be set
            await asyncio.sleep(min(remaining_s, 1.0))
        await work()

    async def _wait_for_end(self) -> None:
        await self._end.wait()

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number, outcome in (
            (signal.SIGTERM, INTERRUPTED),
            (signal.SIGINT, INTERRUPTED),
            (signal.SIGUSR1, STOPPED),
        ):
            loop.add_signal_handler(number, self.end, outcome)

    def end(self, outcome: str) -> None:
        """Request the end of the recording, with this outcome; only the first request counts."""
        if not self._end.is_set():
            self._outcome = outcome
            self._end.set()

    async def _flush_regularly(self) -> None:
        while True:
            self.pipeline.flush_due()
            if self._writer.failure is not None:
                raise self._writer.failure
            await asyncio.sleep(_BEAT_S)

    async def _update_each_second(self) -> None:
        deadline_ns = self._setup.plan.end_ns
        following = time.monotonic()
        while True:
            if self._setup.folder.ending.exists():
                self.end(STOPPED)
            self._report_file_faults()
            self._incidents.check_clock(round(self._setup.settings.clock_step_ms * 1e6))
            self._pauses.report_changes()
            self._health.report_changes(is_whole=self._supervisor.is_whole)
            self._first.report_changes(
                self.pipeline.merge.counts.passed, is_due=self._due_in_s <= 0, trouble=self._health.current
            )
            idle = "waiting" if self._due_in_s > 0 else "connecting"
            self._publisher.publish(
                "disk" if self._writer.trouble else "recording" if self._supervisor.live else idle
            )
            remaining_s = (deadline_ns - self._clock.now_ns()) / 1e9
            if remaining_s <= 0:
                self.end(COMPLETE)
            following += 1
            await asyncio.sleep(max(0.01, min(following - time.monotonic(), remaining_s)))

    def _on_open(self, connection: Connection) -> None:
        self._publisher.begin()
        self._incidents.record_open(connection)

    def _on_end(self, connection: Connection) -> None:
        if not self._end.is_set():
            self._health.record_end(connection)
        self._incidents.record_end(connection)

    def _on_shutdown(self, number: int) -> None:
        self._incidents.record_shutdown(number)
        self._supervisor.handle_shutdown_notice(number)

    def _on_reject(self, reason: str, raw: bytes) -> None:
        self._incidents.record_rejected_message(reason, raw)

    def _on_stray(self, message: Message) -> None:
        self._incidents.record_stray_message(message)

    def _on_malformed(self, symbol: str, what: str) -> None:
        self.pipeline.counts["malformed_diffs"] = self.pipeline.counts.get("malformed_diffs", 0) + 1
        self._events.write(self._clock.now_ns(), "malformed_diff", symbol=symbol, error=what)

    def _on_gap(self, gap: Gap) -> None:
        self._background.handle_gap(gap)

    def _complete_checkpoint(self, mark: Checkpoint) -> Checkpoint:
        others = {
            "audits": self._background.audits,
            "clock": self._background.clock_samples,
            "process": self._accounting.process,
        }
        return mark.model_copy(update=others)

    def _checkpoint(self) -> None:
        """Publish the final counts, with the end of the written bytes as the position."""
        mark = self._complete_checkpoint(self.pipeline.create_checkpoint(self._clock.last_ns))
        mark = mark.model_copy(update={"segment": self._writer.segment, "offset": self._writer.offset})
        publish_model(self._setup.folder.checkpoint, mark)
